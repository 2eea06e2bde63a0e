"""Every setting of a training run: its type, default, allowed values and meaning, stated once.

The command line, the configuration file, `config.json` and the documentation are all generated from these
dataclasses. A value is checked when its group is built, wherever it came from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Self, cast, get_args, get_type_hints

from workflow_rl.errors import SettingError


def _setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    alters_results: bool = True,
) -> Any:
    """A dataclass field that knows its help text, what values it allows, and whether weights depend on it."""
    allowed = {"minimum": minimum, "maximum": maximum, "above": above, "choices": choices}
    return field(default=default, metadata={"help": help, "alters_results": alters_results, **allowed})


@dataclass(frozen=True)
class _Group:
    """A group of settings that are checked when they are built."""

    title: ClassVar[str]

    def __post_init__(self) -> None:
        for item in fields(self):
            check_value(item, value_type(type(self), item), getattr(self, item.name))


def value_type(group: type[_Group], item: dataclasses.Field[Any]) -> type:
    """The type of a setting's value, without `None`."""
    hint = get_type_hints(group)[item.name]
    members = [member for member in get_args(hint) if member is not NoneType]
    result: type = members[0] if members else hint
    return result


def flag(name: str) -> str:
    """The command-line flag of a setting: `n_workers` is `--n-workers`."""
    return "--" + name.replace("_", "-")


def allowed_values(item: dataclasses.Field[Any]) -> str:
    """What a setting allows, in words; empty when any value of its type goes."""
    rules = item.metadata
    if rules["choices"]:
        return "one of " + ", ".join(rules["choices"])
    bounds = [
        f"{word} {rules[key]:.15g}"
        for key, word in (("minimum", "at least"), ("above", "above"), ("maximum", "at most"))
        if rules[key] is not None
    ]
    return " and ".join(bounds)


_TYPE_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
}


def check_value(item: dataclasses.Field[Any], kind: type, value: Any) -> None:
    """Raise a SettingError unless `value` is of type `kind` and allowed for the setting `item`."""
    if value is None and item.default is None:
        return
    if not _has_type(value, kind):
        raise SettingError(f"{flag(item.name)} must be {_TYPE_WORDS[kind]}, got {value!r}")
    rules = item.metadata
    allowed = (
        value in rules["choices"]
        if rules["choices"]
        else (rules["minimum"] is None or value >= rules["minimum"])
        and (rules["above"] is None or value > rules["above"])
        and (rules["maximum"] is None or value <= rules["maximum"])
    )
    if not allowed:
        raise SettingError(f"{flag(item.name)} must be {allowed_values(item)}, got {value}")


def _has_type(value: Any, kind: type) -> bool:
    """Whether a value, perhaps from a file, is of a setting's type; a whole number is also a finite one."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


@dataclass(frozen=True)
class SimulatorSettings(_Group):
    """What is defended, and against whom."""

    title: ClassVar[str] = "Simulator"

    simulator: str = _setting(
        "native",
        "native: ours, compiled, thousands of times faster. cyborg: the reference simulator (csle-cyborg).",
        choices=("native", "cyborg"),
    )
    red_agent: str = _setting(
        "B_lineAgent",
        "The attacker. mixture: B_lineAgent or RedMeanderAgent, drawn for each episode. all-three: the same "
        "with SleepAgent in one of twenty.",
        choices=("B_lineAgent", "RedMeanderAgent", "SleepAgent", "mixture", "all-three"),
    )
    rules: str = _setting(
        "2.1",
        "2.1: CybORG at its last commit, which csle-cyborg is a port of. leaderboard: the commit that CAGE "
        "Challenge 2 was scored on; native simulator only.",
        choices=("2.1", "leaderboard"),
    )
    observation: str = _setting(
        "official",
        "official: the challenge's observation. corrected: as the challenge's winner used it; native "
        "simulator only.",
        choices=("official", "corrected"),
    )
    scan_memory: bool = _setting(False, "Add 26 bits: which hosts were seen scanned, and which one last.")
    decoy_memory: bool = _setting(False, "Add 104 bits: which decoys stand on which host.")
    recency_memory: bool = _setting(
        False, "Add 156 bits: how long ago each host was seen scanned and exploited, and was restored."
    )
    action_set: str = _setting(
        "all",
        "all: the challenge's 145 actions. next-decoy: 39, without those that can do nothing, and with one "
        "for the next decoy of a host; for policies without a workflow.",
        choices=("all", "next-decoy"),
    )
    max_steps: int = _setting(100, "Steps of an episode; the simulator itself never ends one.", minimum=1)


@dataclass(frozen=True)
class SearchSettings(_Group):
    """How the episode budget is spent on workflows."""

    title: ClassVar[str] = "Search over workflows"

    total_episodes: int = _setting(100_000, "Training episodes of the whole run.", minimum=1)
    episodes_per_update: int = _setting(100, "Episodes in the batch of one PPO update.", minimum=1)
    max_episodes_per_workflow: int = _setting(
        10_000, "Training episodes spent on one workflow before the next is chosen.", minimum=1
    )
    workflow: str | None = _setting(
        None, "Train this order only, e.g. defender,enterprise,op_server,op_host,user; no search."
    )
    compliance_threshold: float = _setting(
        0.95, "Compliance of a batch at which an order counts as learnt.", minimum=0.0, maximum=1.0
    )
    universal: bool = _setting(
        False, "Train one policy on all orders, one drawn for each episode, instead of one policy per order."
    )
    stop_rule: str = _setting(
        "plateau",
        "When an order's training ends before its episodes are spent. plateau: when the environment's reward "
        "under the compliance threshold gets no better. threshold: also at the first batch that reaches the "
        "threshold (older; it scores undertrained policies). budget: never.",
        choices=("plateau", "threshold", "budget"),
    )
    patience_updates: int = _setting(
        20,
        "Updates after which an order's training ends if no mean of ten batches was better meanwhile.",
        minimum=1,
    )
    evaluation_episodes: int = _setting(
        200, "Fresh seeded episodes that score a trained order (not part of the budget).", minimum=2
    )
    search_strategy: str = _setting(
        "gp-ucb",
        "How the next order is chosen. gp-ucb, expected-improvement, thompson: by a Gaussian process over "
        "orders. random, round-robin: every order once before any twice, to compare with.",
        choices=("gp-ucb", "expected-improvement", "thompson", "random", "round-robin"),
    )
    halvings: int = _setting(
        3,
        "How often the first training of an order is halved that begins with another's policy; going on "
        "takes it to twice the episodes each time. The Gaussian process says who goes on; without one it is "
        "the better half (successive halving). 0 trains every order in full.",
        minimum=0,
        maximum=10,
    )
    fresh_beginnings: int = _setting(
        2,
        "Orders whose training begins with fresh weights, and is a full one; every later one begins with the "
        "policy that has earned most so far.",
        minimum=1,
    )
    annealing: float = _setting(
        0.5,
        "What Adam's step size is multiplied by each time an order goes on that has had its full training.",
        above=0.0,
        maximum=1.0,
    )
    refining_share: float = _setting(
        0.2,
        "Share of the episodes, the last ones, in which the order that is believed best so far goes on.",
        minimum=0.0,
        maximum=1.0,
    )
    ucb_beta: float = _setting(
        2.0, "Weight of the standard deviation when the search chooses an order (gp-ucb).", minimum=0.0
    )


@dataclass(frozen=True)
class AlignmentSettings(_Group):
    """What keeping to a workflow means and how it is rewarded."""

    title: ClassVar[str] = "Compliance and alignment"

    compliance: str = _setting(
        "reachable",
        "reachable: hosts that blue can never clear (User0) do not count as compromised. "
        "any-session: every red session counts, and no fix gives 0.5 (the older definition).",
        choices=("reachable", "any-session"),
    )
    alignment: str = _setting(
        "lagrangian",
        "violation: minus lambda for each violating fix. rate: lambda times the change of the episode's "
        "compliance rate, minus 0.2 lambda without any fix (older; one early fix earns it all). lagrangian: "
        "as violation, with a lambda that follows compliance until it reaches the threshold. mask: no "
        "reward; while blue's observation shows a compromised host, only fixes of the first type in the "
        "order that it shows can be chosen. mask-lagrangian: both. none: no order binds the policy.",
        choices=("violation", "rate", "lagrangian", "mask", "mask-lagrangian", "none"),
    )
    alignment_lambda: float = _setting(
        10.0,
        "Weight of the alignment reward, in units of the simulator's reward; of lagrangian the first one.",
        minimum=0.0,
    )
    compliance_margin: float = _setting(
        0.01,
        "How far above the compliance threshold lagrangian aims, since batches scatter.",
        minimum=0.0,
        maximum=1.0,
    )
    pid_proportional: float = _setting(
        0.0, "Share of lagrangian's lambda per unit of missing compliance (Stooke et al. 2020).", minimum=0.0
    )
    pid_integral: float = _setting(
        2.0,
        "Rise of lagrangian's lambda with each update per unit of missing compliance, 0.05 at most.",
        minimum=0.0,
    )
    pid_derivative: float = _setting(
        0.0, "Share of lagrangian's lambda per unit by which compliance has just fallen.", minimum=0.0
    )


@dataclass(frozen=True)
class PPOSettings(_Group):
    """The learner (Schulman et al. 2017; decoupled objective: Hilton, Cobbe, Schulman 2022)."""

    title: ClassVar[str] = "PPO"

    learning_rate: float = _setting(3e-3, "Adam's step size.", above=0.0)
    epochs: int = _setting(4, "Passes over a batch in one update.", minimum=1)
    minibatch_size: int = _setting(2500, "Steps in one gradient step; 0 takes the whole batch.", minimum=0)
    discount: float = _setting(0.99, "Discount factor gamma of the return.", minimum=0.0, maximum=1.0)
    gae_lambda: float = _setting(
        0.95, "Lambda of generalised advantage estimation (Schulman et al. 2016).", minimum=0.0, maximum=1.0
    )
    clip_range: float = _setting(0.2, "Clipping range of the probability ratio.", above=0.0)
    entropy_coefficient: float = _setting(0.003, "Weight of the entropy bonus.", minimum=0.0)
    value_coefficient: float = _setting(0.5, "Weight of the value loss.", minimum=0.0)
    max_gradient_norm: float = _setting(0.5, "Gradients are scaled down to this global norm.", above=0.0)
    normalize_advantages: bool = _setting(True, "Scale a batch's advantages to mean 0, deviation 1.")
    reward_scale: float = _setting(
        0.1, "Rewards are multiplied by this for the learner only; logs show them unscaled.", above=0.0
    )
    horizon: str = _setting(
        "truncation",
        "truncation: the return goes on past the last step with the value of the last observation. "
        "end: the horizon ends the return, as the challenge scores it.",
        choices=("truncation", "end"),
    )
    objective: str = _setting(
        "decoupled",
        "What a batch played by an older policy is clipped against. decoupled: the policy at the start of "
        "the update. coupled: the policy that played it.",
        choices=("decoupled", "coupled"),
    )
    importance_weight_cap: float = _setting(
        10.0, "Upper bound of the importance weights of the decoupled objective.", minimum=1.0
    )
    hidden_size: int = _setting(64, "Units in each of the two hidden layers of actor and critic.", minimum=1)
    drop_unused_inputs: bool = _setting(
        False, "Leave out of an update the inputs that are zero throughout the batch: quicker with memories."
    )
    device: str = _setting(
        "cpu",
        "Where the learner computes: cpu, cuda, cuda:1, mps ... On cpu the same seed gives the same weights "
        "to the last bit; others add numbers up in no fixed order.",
    )
    learner_threads: int = _setting(
        1, "Threads of the learner; its last bits depend on it, so it does not follow the machine.", minimum=1
    )


@dataclass(frozen=True)
class ScheduleSettings(_Group):
    """What of the learner's settings changes in the course of a training."""

    title: ClassVar[str] = "Schedules"

    final_learning_rate: float = _setting(
        1.0, "Share of --learning-rate that is left at the end, reached in a straight line.", minimum=0.0
    )
    final_entropy: float = _setting(
        1.0, "Share of --entropy-coefficient that is left at the end, reached by equal factors.", minimum=0.0
    )


@dataclass(frozen=True)
class CollectorSettings(_Group):
    """Who plays the episodes."""

    title: ClassVar[str] = "Collection"

    collector: str = _setting(
        "executor",
        "executor: workers that play whole episodes on their own. "
        "ray: the same as actors of Ray, on one machine or many. "
        "synchronous: an environment per worker process, all of which step together. "
        "sequential: one environment in this process.",
        choices=("executor", "ray", "synchronous", "sequential"),
        alters_results=False,
    )
    executor: str = _setting(
        "auto",
        "What a worker is. process: for any environment; a lost one is replaced. thread: quicker for a "
        "compiled environment, but a crash takes the run along, and nothing ends one that hangs. auto: "
        "threads for the native simulator unless there is an --episode-timeout, else processes.",
        choices=("auto", "process", "thread"),
        alters_results=False,
    )
    n_workers: int = _setting(
        100,
        "Workers. The native simulator is played by no more threads than there are cores.",
        minimum=1,
        alters_results=False,
    )
    lag: int = _setting(
        1,
        "Updates by which the policy that plays may be behind the learner; 0 is strictly on-policy.",
        minimum=0,
    )
    episode_timeout: float | None = _setting(
        None,
        "Seconds after which an episode in a worker counts as hanging: the worker is killed and the episode "
        "played again; default never.",
        above=0.0,
        alters_results=False,
    )
    ray_address: str | None = _setting(
        None,
        "Ray cluster that the workers of --collector ray run on: host:port, or auto for the one that this "
        "machine is part of; default a Ray of the run's own on this machine.",
        alters_results=False,
    )


@dataclass(frozen=True)
class RunSettings(_Group):
    """The run as a whole."""

    title: ClassVar[str] = "Run"

    seed: int = _setting(
        0, "Seed of the run: same seed, same weights, whatever collects.", minimum=0, maximum=2**32 - 1
    )
    run_dir: Path | None = _setting(
        None, "Directory for the run's results, made for it; default runs/<date>-<time>-seed<seed>."
    )
    trace: Path | None = _setting(
        None,
        "Draw who does what when to this file, for ui.perfetto.dev: a row per worker, a slice per episode, "
        "the learner's waits and updates. About 200 bytes an episode.",
        alters_results=False,
    )
    logger: str | None = _setting(
        None,
        "Copy the figures of TensorBoard's events to this service too, as its own environment variables set "
        "it up; if it fails, the run goes on without it.",
        choices=("wandb", "mlflow", "trackio"),
        alters_results=False,
    )


@dataclass(frozen=True)
class CheckpointSettings(_Group):
    """What a run keeps in case it is stopped."""

    title: ClassVar[str] = "Checkpoints"

    checkpoint_seconds: float = _setting(
        10.0,
        "Time after which the next update is followed by a checkpoint. The end of a training and Ctrl-C are "
        "always followed by one.",
        minimum=0.0,
        alters_results=False,
    )


@dataclass(frozen=True)
class AnswerSettings(_Group):
    """What a search answers, beside the order that does best against one attacker."""

    title: ClassVar[str] = "Answer"

    attackers: str = _setting(
        "B_lineAgent,RedMeanderAgent,mixture",
        "What --red-agent is in turn, separated by commas: a search for each.",
    )
    unbound_episodes: int = _setting(
        10_000,
        "Training episodes, for each attacker, of a policy that no order binds: what keeping to one costs. "
        "0 leaves it out.",
        minimum=0,
    )
    confirmed_orders: int = _setting(
        3,
        "Orders, for each attacker, that play once more, on the reference simulator: the first ones that "
        "differ in their policies.",
        minimum=0,
    )
    confirmation_episodes: int = _setting(200, "Fresh episodes of each of them.", minimum=2)


@dataclass(frozen=True)
class EnvironmentSettings(_Group):
    """What is played when it is not CAGE Challenge 2, and for how long."""

    title: ClassVar[str] = "Environment"

    env: str = _setting(
        "CartPole-v1",
        "Gymnasium environment: a registered id, module:id, or module:Class; the module is imported.",
    )
    env_kwargs: str = _setting(
        "{}", 'Keyword arguments of its constructor, a JSON object such as \'{"map_name": "8x8"}\'.'
    )
    total_steps: int = _setting(
        100_000, "Training ends with the batch that reaches this many steps.", minimum=1
    )
    steps_per_update: int = _setting(
        1024,
        "Steps aimed at in the batch of one update. A batch is whole episodes: as many as give this with the "
        "mean length of the last batch that was learnt from.",
        minimum=1,
    )
    normalize_observations: bool = _setting(
        False,
        "Shift and scale each component of an observation by its mean and deviation in all batches so far.",
    )
    normalize_rewards: bool = _setting(
        False,
        "Divide rewards by the deviation of their discounted sum in all batches so far; logs show them "
        "undivided.",
    )
    evaluation_episodes: int = _setting(
        100, "Fresh seeded episodes that score the final policy, taking its most probable actions.", minimum=2
    )


@dataclass(frozen=True)
class DefenderSettings(_Group):
    """How long a defender of CAGE Challenge 2 trains, and how its policy is picked."""

    title: ClassVar[str] = "Defender"

    total_episodes: int = _setting(
        400_000, "Training episodes of the policy, without those of other beginnings.", minimum=1
    )
    episodes_per_update: int = _setting(1000, "Episodes in the batch of one PPO update.", minimum=1)
    beginnings: int = _setting(
        3,
        "Trainings that begin, each with other weights. The one that is best in validation goes on.",
        minimum=1,
    )
    beginning_share: float = _setting(
        0.2, "Share of --total-episodes after which the best beginning is picked.", minimum=0.0, maximum=1.0
    )
    validation_updates: int = _setting(
        10,
        "Updates from one validation to the next. A validation plays the challenge's nine cells; the policy "
        "with the best sum of means is kept.",
        minimum=1,
    )
    validation_episodes: int = _setting(
        500, "Episodes of each cell, always the same ones, which no other evaluation plays.", minimum=2
    )

    @property
    def episodes_of_all_beginnings(self) -> int:
        """Training episodes of the whole run, but for the rest of a batch at the end of each training."""
        others = (self.beginnings - 1) * self.beginning_share
        return round(self.total_episodes * (1.0 + others))


class _AllSettings:
    """All settings of a command, one field for each group, whose default is that of the command."""

    command: ClassVar[str]

    @classmethod
    def groups(cls) -> dict[str, type[_Group]]:
        """The groups of settings by field, in the order of the help text."""
        hints = get_type_hints(cls)
        return {item.name: hints[item.name] for item in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def defaults(cls) -> dict[str, _Group]:
        """The groups with the values that the command gives them, by field."""
        return {item.name: cast(_Group, item.default) for item in fields(cls)}  # type: ignore[arg-type]

    @classmethod
    def names(cls) -> set[str]:
        """The names of all settings."""
        return {item.name for item in cls._items()}

    @classmethod
    def neutral_names(cls) -> set[str]:
        """Those that change how a run goes, not what comes of it; they may change when it is resumed."""
        return {item.name for item in cls._items() if not item.metadata["alters_results"]}

    @classmethod
    def _items(cls) -> list[dataclasses.Field[Any]]:
        return [item for group in cls.groups().values() for item in fields(group)]

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Self:
        """Build all groups from one mapping of setting names to values; missing names take their defaults.

        The inverse of `to_flat`.

        Raises:
            SettingError: a name is unknown or a value is not allowed.
        """
        known = cls.names()
        if unknown := sorted(set(values) - known):
            raise SettingError(
                f"unknown setting {unknown[0]!r}; workflow-rl {cls.command} --help lists them all"
            )
        built: dict[str, Any] = {
            name: dataclasses.replace(
                default,
                **{
                    item.name: _from_json(type(default), item, values)
                    for item in fields(default)
                    if item.name in values
                },
            )
            for name, default in cls.defaults().items()
        }
        return cls(**built)

    def to_flat(self) -> dict[str, Any]:
        """One mapping of setting names to JSON values, in the order of the help text."""
        flat: dict[str, Any] = {}
        for name in self.groups():
            flat.update(dataclasses.asdict(getattr(self, name)))
        return {name: str(value) if isinstance(value, Path) else value for name, value in flat.items()}


@dataclass(frozen=True)
class TrainSettings(_AllSettings):
    """All settings of a run of the main job, by group."""

    command: ClassVar[str] = "train"

    simulator: SimulatorSettings = SimulatorSettings()
    search: SearchSettings = SearchSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    ppo: PPOSettings = PPOSettings()
    collector: CollectorSettings = CollectorSettings()
    run: RunSettings = RunSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()


@dataclass(frozen=True)
class FullSearchSettings(TrainSettings):
    """All settings of a search against several attackers, by group."""

    command: ClassVar[str] = "search"

    answer: AnswerSettings = AnswerSettings()


@dataclass(frozen=True)
class EnvironmentTrainSettings(_AllSettings):
    """All settings of training on one Gymnasium environment, by group."""

    command: ClassVar[str] = "train-env"

    environment: EnvironmentSettings = EnvironmentSettings()
    ppo: PPOSettings = PPOSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    collector: CollectorSettings = CollectorSettings()
    run: RunSettings = RunSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()


@dataclass(frozen=True)
class DefenderTrainSettings(_AllSettings):
    """All settings of training a defender of CAGE Challenge 2 that no workflow binds, by group."""

    command: ClassVar[str] = "train-defender"

    simulator: SimulatorSettings = SimulatorSettings(
        red_agent="all-three",
        scan_memory=True,
        decoy_memory=True,
        recency_memory=True,
        action_set="next-decoy",
    )
    defender: DefenderSettings = DefenderSettings()
    ppo: PPOSettings = PPOSettings(
        learning_rate=1.5e-3,
        epochs=3,
        minibatch_size=4000,
        gae_lambda=0.93,
        entropy_coefficient=0.05,
        drop_unused_inputs=True,
    )
    schedule: ScheduleSettings = ScheduleSettings(final_learning_rate=0.05, final_entropy=0.03)
    collector: CollectorSettings = CollectorSettings(n_workers=2)
    run: RunSettings = RunSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()


CommandSettings = TrainSettings | EnvironmentTrainSettings | DefenderTrainSettings
"""All settings of a command that leaves a run; those of a search are settings of train, and more."""


def _from_json(group: type[_Group], item: dataclasses.Field[Any], values: Mapping[str, Any]) -> Any:
    """A setting's value, which files can only hold as text if it is a path."""
    value = values[item.name]
    return Path(value) if isinstance(value, str) and value_type(group, item) is Path else value


def groups(settings: type[_AllSettings] = TrainSettings) -> list[type[_Group]]:
    """The groups of a command's settings, in the order of the help text."""
    return list(settings.groups().values())
