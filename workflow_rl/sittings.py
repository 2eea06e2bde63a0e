"""When and with what a run was trained: an entry for each of its sittings, in sittings.json.

A run that is stopped and resumed has several, maybe on several machines and with several versions. What comes
of it may hang on them: the learner's last bits are those of a processor type, a torch version and a thread
count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self

from workflow_rl.errors import RunDirectoryError
from workflow_rl.machine import Commit, Machine, describe_machine
from workflow_rl.run_directory import RunDirectory

SITTINGS = "sittings.json"


@dataclass(frozen=True)
class Sitting:
    """One sitting of a run, as it began.

    Attributes:
        started: date and time with the time zone.
        has_resumed: whether it went on with the run.
        machine: what it ran on, and versions of what it ran.
    """

    started: datetime
    has_resumed: bool
    machine: Machine

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "started": self.started.isoformat(timespec="seconds")}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is of another version.
        """
        machine = dict(values["machine"])
        if machine["commit"] is not None:
            machine["commit"] = Commit(**machine["commit"])
        started = datetime.fromisoformat(values["started"])
        return cls(started, values["has_resumed"], Machine(**machine))


def record_sitting(directory: RunDirectory, *, has_resumed: bool) -> None:
    """Add the sitting that begins now; one that begins the run replaces what a killed beginning left.

    Raises:
        RunDirectoryError: the file cannot be read or written.
    """
    earlier = _entries(directory) if has_resumed else []
    now = datetime.now().astimezone()
    directory.write_json(SITTINGS, [*earlier, Sitting(now, has_resumed, _this_machine()).to_json()])


def read_sittings(directory: RunDirectory) -> tuple[Sitting, ...]:
    """The sittings of a run; none, or resumed ones only, of a run that older versions began.

    Raises:
        RunDirectoryError: the file is damaged or of another version.
    """
    try:
        return tuple(map(Sitting.from_json, _entries(directory)))
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{directory.path / SITTINGS} is of another version: {error!r}") from error


def _entries(directory: RunDirectory) -> list[Any]:
    entries = directory.read_json(SITTINGS) or []
    if not isinstance(entries, list):
        raise RunDirectoryError(f"{directory.path / SITTINGS} is damaged: it holds no sittings")
    return entries


@cache
def _this_machine() -> Machine:
    """Looked at once: what is loaded stays, whatever is checked out or installed later."""
    return describe_machine()
