"""A run's directory on disk: everything that a run leaves, written so that a killed run leaves whole files.

    config.json          the resolved settings; a directory that has it holds a run
    sittings.json        when it was started and resumed, on what machine, with what versions (`sittings`)
    *_log.csv            one row per update, trial or validation (`run_log`)
    ranking.csv          all orders, best first (`run_log.RankingRow`); written whole at the end of a sitting
    tensorboard/         the same figures as TensorBoard events
    learners/*           trainings that may go on (`learner_files`)
    *.json, policies/*   whatever else the run stores, by `write_json` and `write_bytes`
    lock                 empty; held by the process whose run it is, and by nobody after its end

Whole files are written beside their place and then renamed, so that a reader sees the old or the new contents
and never a part. Logs grow by one line per row, handed to the operating system at once: a process killed with
SIGKILL loses no row, a machine that loses power may tear the last one, and readers skip a torn last line. A
resumed run first cuts its logs back to the rows that its saved state knows of.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from workflow_rl.errors import EpisodeError, RunDirectoryError
from workflow_rl.event_file import EventFile
from workflow_rl.run_log import COLUMNS, RANKING, RANKING_COLUMNS, RankingRow, csv_line, whole_rows
from workflow_rl.scalar_loggers import ScalarCopy

if sys.platform != "win32":
    import fcntl

CONFIG = "config.json"
SUMMARY = "summary.json"
ANSWER = "answer.json"
"""What a search of all attackers came to (`search_job`)."""
ERROR_LOG = "error.log"
TENSORBOARD = "tensorboard"
LOCK = "lock"

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system answers that knows no locks."""


def default_run_directory(seed: int) -> Path:
    """Where a run goes when its user names no place: runs/<date>-<time>-seed<seed>."""
    return Path("runs") / f"{datetime.now().astimezone():%Y-%m-%d-%H%M%S}-seed{seed}"


class RunDirectory:
    """The directory of one run; made by `create` or `resume`, ended by `close` or as a context manager.

    As a context manager it belongs to this process alone: while one process writes a run, another would only
    harm it. (Not on Windows, nor on file systems that know no locks, as those of some clusters.)

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open_logs: dict[str, TextIO] = {}
        self._events: EventFile | None = None
        self._scalar_copy: ScalarCopy | None = None
        self._lock: TextIO | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the directory of a new run, with its parents. An existing one may hold anything but a run.

        Raises:
            RunDirectoryError: it already holds a run, or cannot be made or written to; then nothing was made.
        """
        with _write_errors(path):
            if any((path / name).exists() for name in (CONFIG, *COLUMNS)):
                raise RunDirectoryError(
                    f"{path} already holds a run; use --resume {path} or another --run-dir"
                )
            _make_writable(path)
        return cls(path)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Open the directory of an existing run. Call `cut_log` for each log before the first `append_row`.

        Raises:
            RunDirectoryError: it holds no run, or cannot be written to.
        """
        with _write_errors(path):
            if not (path / CONFIG).is_file():
                raise RunDirectoryError(f"{path} holds no run to go on with: it has no {CONFIG}")
            _make_writable(path)
        return cls(path)

    @contextmanager
    def keeping_traceback(self) -> Iterator[None]:
        """Write the worker's traceback of an EpisodeError to error.log, and name that file in the error."""
        try:
            yield
        except EpisodeError as error:
            self.write_bytes(ERROR_LOG, f"{error}\n\n{error.worker_traceback}".encode())
            raise EpisodeError(f"{error}; the worker's traceback is in {self.path / ERROR_LOG}") from error

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file atomically.

        Raises:
            RunDirectoryError: it cannot be written.
            ValueError: a number is NaN or infinite, which JSON does not know; use `None`.
        """
        self.write_bytes(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file, `None` if there is none.

        Raises:
            RunDirectoryError: it cannot be read.
        """
        path = self.path / name
        try:
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{path} cannot be read: {error}") from error

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file atomically: whoever reads it finds the old contents or the new ones.

        Args:
            name: relative to the directory; folders in it are made.
            content: the whole file.

        Raises:
            RunDirectoryError: it cannot be written; an older file is then untouched.
        """
        target = self.path / name
        partial = target.with_name(f".{target.name}.partial")
        with _write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

    def delete_files(self, folder: str, *, but: Collection[str]) -> None:
        """Delete all files of a folder but those of some names.

        Raises:
            RunDirectoryError: one cannot be deleted.
        """
        with _write_errors(self.path / folder):
            for file in (self.path / folder).iterdir():
                if file.name not in but:
                    file.unlink()

    def append_row(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a log; it has left this process when the call returns.

        Args:
            name: `TRAINING_LOG`, `SEARCH_LOG`, `LEARNING_LOG` or `VALIDATION_LOG`.
            row: a value for every column and nothing else; `None` makes an empty cell.

        Raises:
            RunDirectoryError: it cannot be written.
            ValueError: a column is missing or unknown.
        """
        columns = COLUMNS[name]
        if wrong := set(columns) ^ set(row):
            raise ValueError(f"a row of {name} has each of its columns, missing or unknown: {sorted(wrong)}")
        with _write_errors(self.path / name):
            self._log(name).write(csv_line([row[column] for column in columns]))

    def cut_log(self, name: str, num_rows: int) -> None:
        """Keep the first rows of a log and drop what follows, a torn last line too. A missing log is started.

        Raises:
            RunDirectoryError: it holds fewer whole rows, has other columns, or cannot be written.
        """
        if opened := self._open_logs.pop(name, None):
            opened.close()
        path = self.path / name
        rows = whole_rows(path, COLUMNS[name]) if path.exists() else []
        if len(rows) < num_rows:
            raise RunDirectoryError(f"{path} is damaged: it holds {len(rows)} rows of {num_rows}")
        self.write_bytes(name, "".join([csv_line(COLUMNS[name]), *rows[:num_rows]]).encode())

    def write_ranking(self, rows: Iterable[RankingRow]) -> None:
        """Write ranking.csv atomically.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        lines = [csv_line(RANKING_COLUMNS), *(csv_line(astuple(row)) for row in rows)]
        self.write_bytes(RANKING, "".join(lines).encode())

    def copy_scalars(self, copy: ScalarCopy) -> None:
        """Give a logger the figures of TensorBoard's events too from now on, and close it in the end."""
        self._scalar_copy = copy

    def write_scalars(self, values: Mapping[str, float | None], *, step: int) -> None:
        """Add figures to TensorBoard's events.

        A run that went on after a kill writes its last steps again; TensorBoard shows only the later ones.

        Args:
            values: by tag; `None` is left out.
            step: position on TensorBoard's axis, e.g. episodes so far.

        Raises:
            RunDirectoryError: they cannot be written.
        """
        with _write_errors(self.path / TENSORBOARD):
            if self._events is None:
                self._events = EventFile(self.path / TENSORBOARD, step)
            known = {tag: value for tag, value in values.items() if value is not None}
            self._events.add_scalars(known, step)
        if self._scalar_copy is not None:
            self._scalar_copy.add_scalars(known, step)

    def flush(self) -> None:
        """Bring all that was logged to the disk, so that what is stored after it may rely on it.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        for name, log in self._open_logs.items():
            with _write_errors(self.path / name):
                os.fsync(log.fileno())
        if self._events is not None:
            with _write_errors(self.path / TENSORBOARD):
                self._events.synchronize()

    def close(self) -> None:
        """Close the logs and TensorBoard's events and let others have the directory. May be called twice.

        Raises:
            RunDirectoryError: what was logged last cannot be written.
        """
        with ExitStack() as stack:
            if self._lock is not None:
                stack.callback(self._lock.close)
            if self._scalar_copy is not None:
                stack.callback(self._scalar_copy.close)
            stack.enter_context(_write_errors(self.path))
            if self._events is not None:
                stack.callback(self._events.close)
            for log in self._open_logs.values():
                stack.callback(log.close)
        self._open_logs.clear()

    def _take(self) -> None:
        """Lock the directory until `close`, or until this process ends, however it ends."""
        if sys.platform == "win32":
            return
        with _write_errors(self.path / LOCK):
            self._lock = (self.path / LOCK).open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._lock.close()
                raise RunDirectoryError(f"the run in {self.path} is going on in another process") from error
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RunDirectoryError:
            if error is None:  # or else it is the disk that was full before
                raise

    def _log(self, name: str) -> TextIO:
        """The log, open for appending whole lines; a new one starts with its header."""
        if name not in self._open_logs:
            log = (self.path / name).open("a", buffering=1, encoding="utf-8", newline="")
            if log.tell() == 0:
                log.write(csv_line(COLUMNS[name]))
            self._open_logs[name] = log
        return self._open_logs[name]


def is_going_on(run_directory: Path) -> bool:
    """Whether a process holds the run; always where there are no such locks, see `RunDirectory`.

    The lock is asked for, shared, and given back at once. A run that began in those microseconds would be
    refused, so this is not for asking all the time.

    Raises:
        RunDirectoryError: it cannot be told.
    """
    if sys.platform == "win32":
        return True
    try:
        with (run_directory / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            return True
        raise RunDirectoryError(f"{run_directory / LOCK} cannot be read: {error.strerror}") from error
    return False


def _make_writable(path: Path) -> None:
    """Make a directory with its parents and see that files can be made in it, or make nothing."""
    made: list[Path] = []
    try:
        for directory in reversed([place for place in (path, *path.parents) if not place.exists()]):
            directory.mkdir()
            made.append(directory)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError:
        for directory in reversed(made):
            directory.rmdir()
        raise


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Report what the operating system refuses as one line about `path`."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"cannot write {path}: {error.strerror or error}") from error
