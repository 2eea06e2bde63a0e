"""A policy that a run left, read together with what it was trained for, ready to play.

Whoever plays a stored policy, to score it or to show it, has to build the environment that it fits and to
tell it the order it was trained for; the file's metadata say which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from workflow_rl.defenders import SHIPPED
from workflow_rl.environments import (
    CYBORG,
    NATIVE,
    constructor_errors,
    gymnasium_environment,
    on_simulator,
)
from workflow_rl.episode import EnvironmentSpec
from workflow_rl.errors import PolicyFileError, RunDirectoryError, SettingError
from workflow_rl.policy import ActorCritic, load_policy
from workflow_rl.rollout import shape_for
from workflow_rl.run_directory import SUMMARY, RunDirectory
from workflow_rl.settings import EnvironmentSettings
from workflow_rl.workflow import ALL_ORDERS, Workflow


@dataclass(frozen=True)
class StoredPolicy:
    """A policy file that was read.

    Attributes:
        file: where it is.
        policy: what it holds.
        environment: what it was trained on, or the same game on the simulator that was asked for.
        workflow: the order it is told; `None` for a policy that is told none.
        compliance: the definition it is judged by; `None` likewise.
        mask: see `Ticket.mask`.
    """

    file: Path
    policy: ActorCritic
    environment: EnvironmentSpec
    workflow: Workflow | None
    compliance: str | None
    mask: str | None

    @property
    def is_greedy(self) -> bool:
        """Whether its run scored it by its most probable actions: the main job samples, others do not."""
        return self.workflow is None

    def require_cage2(self, option: str) -> None:
        """Refuse an option that only policies for CAGE Challenge 2 have.

        Raises:
            SettingError: the policy plays something else.
        """
        _require_cage2(self.environment, self.file, option)


def read_policy(
    path: Path, *, workflow: str | None = None, simulator: str | None = None, rules: str | None = None
) -> StoredPolicy:
    """Read a policy, and see that it fits what it is to play.

    Args:
        path: a policy file; a run directory, whose best (or only) policy is taken and told its best order; or
            the name of a policy that comes with the package (`defenders`).
        workflow: the order that a universal policy is told; `None` is the best one of its run.
        simulator: "native" or "cyborg"; `None` is the one it was trained on.
        rules: see `SimulatorSettings.rules`; `None` are those it was trained on.

    Raises:
        PolicyFileError: the file is missing, damaged, or does not fit its environment.
        RunDirectoryError: the run has no policy yet.
        SettingError: what is asked for is not possible with this policy.
    """
    file, best_order = _located(path)
    policy, metadata = load_policy(file)
    has_workflow = policy.shape.num_context > 0
    try:
        name, kwargs = metadata["environment"]["id"], metadata["environment"]["kwargs"]
        order = _order(file, metadata["workflow"], workflow, best_order) if has_workflow else None
        compliance = metadata["compliance"] if has_workflow else None
    except KeyError as error:
        raise PolicyFileError(f"{file} does not say what it was trained for: {error} is missing") from error
    environment = gymnasium_environment(EnvironmentSettings(env=name, env_kwargs=json.dumps(kwargs)))
    if workflow is not None and not has_workflow:
        raise SettingError(f"--workflow is for policies of workflow-rl train; {file} is told no order")
    for option, value in (("--simulator", simulator), ("--rules", rules)):
        if value is not None:
            _require_cage2(environment, file, option)
    if simulator is not None or rules is not None:
        own = "native" if environment.id == NATIVE else "cyborg"
        environment = on_simulator(environment, simulator or own, rules)
    _check_fit(file, policy, environment)
    return StoredPolicy(file, policy, environment, order, compliance, metadata.get("mask"))


def _located(path: Path) -> tuple[Path, str | None]:
    """The policy file, and the order that did best with it if its run says so."""
    if not path.exists():
        if (shipped := SHIPPED.get(str(path))) is None:
            names = ", ".join(SHIPPED)
            raise PolicyFileError(
                f"there is no policy {path}; name a run's directory, a policy file or one of {names}"
            )
        return shipped, None
    if not path.is_dir():
        return path, None
    summary = RunDirectory(path).read_json(SUMMARY) or {}
    name = summary.get("best_policy") or summary.get("policy")
    if name is None:
        if parts := sorted(path.glob(f"*/{SUMMARY}")):  # a search of all attackers
            raise RunDirectoryError(f"{path} holds runs: name one of them, such as {parts[0].parent}")
        raise RunDirectoryError(f"{path} holds no evaluated policy yet; name a policy file instead")
    return path / str(name), summary.get("best_workflow")


def _order(file: Path, trained_for: str, asked: str | None, best: str | None) -> Workflow:
    """The order that a policy is told."""
    if trained_for == ALL_ORDERS:
        if asked is None and best is None:
            raise SettingError(f"{file} serves every order: say which one with --workflow")
        return Workflow.parse(asked or best or "")
    workflow = Workflow.parse(trained_for)
    if asked is not None and Workflow.parse(asked) != workflow:
        raise SettingError(f"--workflow {asked}: {file} was trained for {workflow} only")
    return workflow


def _require_cage2(environment: EnvironmentSpec, file: Path, option: str) -> None:
    if environment.id not in (NATIVE, CYBORG):
        raise SettingError(f"{option} is for policies of workflow-rl train; {file} plays {environment.id}")


def _check_fit(file: Path, policy: ActorCritic, environment: EnvironmentSpec) -> None:
    """See that the environment still has the spaces that the policy was trained on."""
    with constructor_errors(environment.id):
        shape = shape_for(
            environment, hidden_size=policy.shape.hidden_size, has_workflow=policy.shape.num_context > 0
        )
    if shape != policy.shape:
        raise PolicyFileError(f"{file} does not fit {environment.id}, which has other spaces now")
