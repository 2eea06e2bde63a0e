"""The package's own errors.

    WorkflowRLError
      +-- SettingError        a value the user gave is not allowed              exit code 2
      +-- RunDirectoryError   a run directory cannot be used as asked           exit code 2
      +-- PolicyFileError     a policy file is damaged or does not fit          exit code 2
      +-- MissingExtraError   an optional part is not installed                 exit code 2
      +-- EpisodeError        an environment failed while an episode was played exit code 1
      +-- CollectorError      the workers could not be kept alive               exit code 1
      +-- LearnerError        the learner cannot go on                          exit code 1

Each message is one line that says what was given, what is allowed and what to do.
"""

from __future__ import annotations


class WorkflowRLError(Exception):
    """Base of all errors that are reported to the user as one line."""

    exit_code = 1


class SettingError(WorkflowRLError, ValueError):
    """A setting has a value that is not allowed."""

    exit_code = 2


class RunDirectoryError(WorkflowRLError):
    """A run directory is missing, not writable, or already holds a run."""

    exit_code = 2


class PolicyFileError(WorkflowRLError):
    """A policy file is missing, damaged, or made for another environment."""

    exit_code = 2


class MissingExtraError(WorkflowRLError, ImportError):
    """An optional dependency is needed and not installed."""

    exit_code = 2

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'workflow-rl[{extra}]'"
        )
        self._given = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), self._given  # a worker may have to send it


class EpisodeError(WorkflowRLError):
    """An environment raised while an episode was played.

    Attributes:
        worker_traceback: the traceback text from the process that played the episode.
    """

    def __init__(self, message: str, worker_traceback: str = "") -> None:
        super().__init__(message, worker_traceback)
        self.worker_traceback = worker_traceback

    def __str__(self) -> str:
        return str(self.args[0])


class CollectorError(WorkflowRLError):
    """Workers died more often than a run tolerates."""


class LearnerError(WorkflowRLError):
    """The learner cannot go on; the run's last checkpoint is from before."""
