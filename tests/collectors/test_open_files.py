"""Workers take files of the learner: it raises a low limit, and says so where it may not."""

from __future__ import annotations

import resource
import subprocess
import sys

from played import assert_same, play, played_alone, snapshot, tickets
from system_limits import room_for_files

from workflow_rl.collectors import ExecutorCollector
from workflow_rl.open_files import open_files_limit

REFUSED = """
import resource
from workflow_rl.collectors import ExecutorCollector, SynchronousCollector
from workflow_rl.errors import CollectorError

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
for kind in (ExecutorCollector, SynchronousCollector):
    kind(12).close()
    try:
        kind(13)
    except CollectorError as error:
        print(error)
"""


def test_a_low_limit_is_raised() -> None:
    asked = tickets(range(24))
    with room_for_files(20), ExecutorCollector(12) as collector:
        collector.publish(snapshot(0))
        assert_same(play(collector, asked), played_alone(asked))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == open_files_limit()


def test_more_workers_than_the_system_allows_files_for_are_refused() -> None:
    said = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True).stdout
    line = (
        "13 workers need 103 open files and the system allows 100: raise ulimit -n, or use fewer --n-workers"
    )
    assert said.splitlines() == [line, line]
