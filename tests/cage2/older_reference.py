"""csle-cyborg with single behaviours put back to what they were elsewhere.

Each context manager changes the reference by a few lines; the native simulator has them as settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def leaderboard_rules() -> Iterator[None]:
    """CybORG at the commit the leaderboard was computed on (12 August 2022), before two fixes.

    A port scan adds to red's port list (the later `clearports` does nothing), and a restored process has lost
    its version, so that it no longer counts as older than Haraka 2.8.9.
    """
    from csle_cyborg.shared.enums import ProcessVersion
    from csle_cyborg.simulator.host import Host
    from csle_cyborg.simulator.session import RedAbstractSession

    restore = Host.restore

    def restore_without_versions(host: Any) -> None:
        restore(host)
        for process in host.processes:
            process.version = ProcessVersion.UNKNOWN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RedAbstractSession, "clearports", lambda session, ip_address: None)
        patch.setattr(Host, "restore", restore_without_versions)
        yield


@contextmanager
def corrected_observation() -> Iterator[None]:
    """The challenge winner's wrapper: two lines differ from the official one.

    A host's entries are interpreted only if the last one has a connection, and a list that starts with a
    service is not taken for nothing.
    """
    from csle_cyborg.agents.wrappers.blue_table_wrapper import BlueTableWrapper

    official = BlueTableWrapper._interpret_connections

    def corrected(wrapper: Any, activity: list[dict[str, Any]]) -> str:
        if "Connections" not in activity[-1]:
            return "None"
        nameless = {key: value for key, value in activity[0].items() if key != "Service Name"}
        return official(wrapper, [nameless, *activity[1:]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlueTableWrapper, "_interpret_connections", corrected)
        yield
