"""The run directory's record of what was played again, and why: retries.jsonl, one JSON object per line.

    batch, episode, workflow, version    the ticket
    cause                                raised, died, hung or bystander (`collectors.attempts.Cause`)
    detail                               in words
    failures                             how often the ticket itself had failed by then; 0 for a bystander

The file is there only if something was played again. A resumed run goes on with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from workflow_rl.collectors import Collector
from workflow_rl.collectors.attempts import Retry
from workflow_rl.errors import RunDirectoryError
from workflow_rl.run_directory import RunDirectory

RETRY_LOG = "retries.jsonl"


class RetryLog:
    """Copies what a collector has played again into a run's directory.

    Args:
        directory: of the run.
        collector: its collector.
    """

    def __init__(self, directory: RunDirectory, collector: Collector) -> None:
        self._path = directory.path / RETRY_LOG
        if self._path.exists():  # a machine that lost power may have torn the last line
            lines = self._path.read_bytes().splitlines(keepends=True)
            directory.write_bytes(RETRY_LOG, b"".join(line for line in lines if line.endswith(b"\n")))
        self._collector = collector
        self._num_written = 0

    def update(self) -> None:
        """Add what is new.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        new = self._collector.retried[self._num_written :]
        if not new:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(_line(retry)) + "\n" for retry in new)
        except OSError as error:
            raise RunDirectoryError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._num_written += len(new)

    def count_by_cause(self) -> Mapping[str, int]:
        """How many lines have each cause, those of earlier sittings of the run included."""
        if not self._path.exists():
            return {}
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return dict(sorted(Counter(json.loads(line)["cause"] for line in lines).items()))


def _line(retry: Retry) -> dict[str, Any]:
    return {
        "batch": retry.ticket.batch,
        "episode": retry.ticket.episode,
        "workflow": retry.ticket.workflow,
        "version": retry.ticket.version,
        "cause": str(retry.cause),
        "detail": retry.detail,
        "failures": retry.failures,
    }
