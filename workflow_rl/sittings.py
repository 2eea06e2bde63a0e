"""When and with what a run was trained: an entry for each of its sittings, in sittings.json.

A run that is stopped and resumed has several, maybe on several machines and with several versions. What comes
of it may hang on them: the learner's last bits are those of a processor type, a torch version and a thread
count.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
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
        trace: the file of its trace, an absolute path; `None` if it has none.
    """

    started: datetime
    has_resumed: bool
    machine: Machine
    trace: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **asdict(self),
            "started": self.started.isoformat(timespec="seconds"),
            "trace": None if self.trace is None else str(self.trace),
        }

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
        trace = values.get("trace")  # older versions have none
        return cls(started, values["has_resumed"], Machine(**machine), None if trace is None else Path(trace))


def record_sitting(directory: RunDirectory, *, has_resumed: bool, trace: Path | None = None) -> None:
    """Add the sitting that begins now; one that begins the run replaces what a killed beginning left.

    Args:
        directory: of the run.
        has_resumed: whether the sitting goes on with the run.
        trace: the file of its trace, relative to where this process is or absolute.

    Raises:
        RunDirectoryError: the file cannot be read or written.
    """
    earlier = _entries(directory) if has_resumed else []
    now = datetime.now().astimezone()
    sitting = Sitting(now, has_resumed, _this_machine(), None if trace is None else trace.absolute())
    directory.write_json(SITTINGS, [*earlier, sitting.to_json()])


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
