"""Where a run's figures go beside its own directory: Weights & Biases, MLflow or Trackio.

What goes there is a copy: the directory has every figure, as TensorBoard events and in its logs. So a logger
that fails, because its server is away or nobody has logged in, loses nothing: that is said once, and the run
goes on without it. `--logger` asks for one; each is set up as its library has it, by environment variables:

    wandb      WANDB_MODE=offline, WANDB_PROJECT, WANDB_API_KEY or `wandb login`
    mlflow     MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME
    trackio    TRACKIO_DIR; everything stays on this machine
"""

from __future__ import annotations

import importlib.util
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workflow_rl.closing import Closing
from workflow_rl.errors import MissingExtraError

_PROJECT = "workflow_rl"


class ScalarLogger(Closing):
    """Takes the figures of one sitting of a run.

    Every method raises whatever the library raises.

    Args:
        directory: of the run; its name is the run's.
        config: the settings, JSON values.
    """

    @abstractmethod
    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag."""


class WandbLogger(ScalarLogger):
    """A run of Weights & Biases; its files are in `wandb` in the run's directory."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        import wandb

        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._run = wandb.init(project=project, name=directory.name, dir=directory, config=dict(config))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag; a step that is not above the last one is left out by the library."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


class MlflowLogger(ScalarLogger):
    """A run of MLflow, in the experiment of the environment variable or "workflow_rl"."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        self._run_id = self._client.create_run(experiment, run_name=directory.name).info.run_id
        params = [Param(setting, str(value)) for setting, value in config.items()]
        self._client.log_batch(self._run_id, params=params)

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(tag, value, now, step) for tag, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run_id)


class TrackioLogger(ScalarLogger):
    """A run of Trackio, on this machine; `trackio show` draws it."""

    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        import trackio

        self._run = trackio.init(project=_PROJECT, name=directory.name, config=dict(config))

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


_LOGGERS: Mapping[str, type[ScalarLogger]] = {
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
    "trackio": TrackioLogger,
}


class ScalarCopy(Closing):
    """Copies figures to a logger, and does without it as soon as it fails.

    Args:
        name: of the logger, a value of `--logger`.
        directory: of the run.
        config: the settings, JSON values.
        warn: told in one line what failed.
    """

    def __init__(
        self, name: str, directory: Path, config: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        self._name = name
        self._begin: Callable[[], ScalarLogger] = lambda: _LOGGERS[name](directory, config)
        self._warn = warn
        self._logger: ScalarLogger | None = None
        self._has_failed = False

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add figures by tag; the first ones begin the logger's run."""
        self._try(lambda: self._opened().add_scalars(values, step))

    def close(self) -> None:
        """End the logger's run. Idempotent."""
        if self._logger is not None:
            self._try(self._logger.close)
        self._logger = None

    def _opened(self) -> ScalarLogger:
        if self._logger is None:
            self._logger = self._begin()
        return self._logger

    def _try(self, action: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001  (whatever a library may raise, the run is worth more)
            self._has_failed = True
            self._warn(f"--logger {self._name} failed, and the run goes on without it: {error!r}")


def check_logger(name: str | None) -> None:
    """Find out whether a logger's library is there, before anything is made.

    Raises:
        MissingExtraError: it is not installed.
    """
    if name is not None and importlib.util.find_spec(name) is None:
        raise MissingExtraError(name, name, f"--logger {name}")
