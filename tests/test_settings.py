"""Settings: every one documented, bounded and refused in one line that says what is allowed."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_rl.cage2.scenario import RED_AGENT_CHOICES
from workflow_rl.errors import SettingError
from workflow_rl.settings import (
    AlignmentSettings,
    PPOSettings,
    RunSettings,
    SearchSettings,
    SimulatorSettings,
    TrainSettings,
    allowed_values,
    flag,
    groups,
    value_type,
)

ITEMS = [(group, item) for group in groups() for item in dataclasses.fields(group)]
NAMES = [item.name for _, item in ITEMS]
every_setting = pytest.mark.parametrize(("group", "item"), ITEMS, ids=NAMES)


def refusal(name: str, value: Any) -> str:
    with pytest.raises(SettingError) as caught:
        TrainSettings.from_flat({name: value})
    message = str(caught.value)
    assert flag(name) in message
    assert len(message.splitlines()) == 1
    return message


def just_outside(item: dataclasses.Field[Any], kind: type) -> list[Any]:
    """The nearest values that the bounds of a setting do not allow."""
    rules = item.metadata
    outside = []
    if rules["minimum"] is not None:
        lowest = kind(rules["minimum"])
        outside.append(lowest - 1 if kind is int else math.nextafter(lowest, -math.inf))
    if rules["maximum"] is not None:
        highest = kind(rules["maximum"])
        outside.append(highest + 1 if kind is int else math.nextafter(highest, math.inf))
    if rules["above"] is not None:
        outside.append(kind(rules["above"]))
    return outside


def just_inside(item: dataclasses.Field[Any], kind: type) -> list[Any]:
    rules = item.metadata
    inside = [kind(rules[name]) for name in ("minimum", "maximum") if rules[name] is not None]
    if rules["above"] is not None:
        inside.append(math.nextafter(rules["above"], math.inf))
    return inside


@every_setting
def test_every_setting_says_what_it_is_for(group: type, item: dataclasses.Field[Any]) -> None:
    text = item.metadata["help"]
    assert len(text) > 10
    assert text == text.strip()
    assert value_type(group, item) in (int, float, bool, str, Path)


def test_names_are_unique_over_all_groups() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({group.title for group in groups()}) == len(groups()) > 1


def test_flags() -> None:
    assert flag("n_workers") == "--n-workers"
    assert flag("max_episodes_per_workflow") == "--max-episodes-per-workflow"


@every_setting
def test_defaults_are_allowed(group: type, item: dataclasses.Field[Any]) -> None:
    default = item.default
    assert TrainSettings.from_flat({item.name: default}) == TrainSettings()
    assert default is None or isinstance(default, value_type(group, item))


def test_what_the_main_job_asks_for_is_the_default() -> None:
    defaults = TrainSettings().to_flat()
    expected = {
        "n_workers": 100,
        "total_episodes": 100_000,
        "episodes_per_update": 100,
        "red_agent": "B_lineAgent",
        "compliance": "reachable",
        "alignment": "lagrangian",
        "lag": 1,
        "collector": "executor",
    }
    assert {name: defaults[name] for name in expected} == expected


def test_attackers_are_those_of_the_scenario() -> None:
    choices = {item.name: item.metadata["choices"] for item in dataclasses.fields(SimulatorSettings)}
    assert choices["red_agent"] == RED_AGENT_CHOICES


@every_setting
def test_values_just_outside_the_bounds_are_refused(group: type, item: dataclasses.Field[Any]) -> None:
    kind = value_type(group, item)
    for value in just_outside(item, kind):
        message = refusal(item.name, value)
        assert message == f"{flag(item.name)} must be {allowed_values(item)}, got {value}"
    for value in just_inside(item, kind):
        TrainSettings.from_flat({item.name: value})


def test_the_bounds_that_the_learner_relies_on() -> None:
    """Written out, so that a bound that is lost is missed."""
    refused: list[tuple[str, Any]] = [
        ("n_workers", 0),
        ("n_workers", -1),
        ("total_episodes", 0),
        ("episodes_per_update", 0),
        ("max_episodes_per_workflow", 0),
        ("max_steps", 0),
        ("patience_updates", 0),
        ("evaluation_episodes", 1),
        ("compliance_threshold", 1.01),
        ("compliance_threshold", -0.01),
        ("discount", 1.01),
        ("gae_lambda", -0.1),
        ("learning_rate", 0.0),
        ("clip_range", 0.0),
        ("epochs", 0),
        ("minibatch_size", -1),
        ("importance_weight_cap", 0.9),
        ("alignment_lambda", -1.0),
        ("reward_scale", 0.0),
        ("max_gradient_norm", 0.0),
        ("hidden_size", 0),
        ("learner_threads", 0),
        ("lag", -1),
        ("seed", -1),
        ("seed", 2**32),
    ]
    for name, value in refused:
        refusal(name, value)


@every_setting
def test_unknown_choices_are_refused_with_the_known_ones(group: type, item: dataclasses.Field[Any]) -> None:
    choices = item.metadata["choices"]
    if choices:
        message = refusal(item.name, "other")
        assert message == f"{flag(item.name)} must be one of {', '.join(choices)}, got other"
        for choice in choices:
            assert TrainSettings.from_flat({item.name: choice}).to_flat()[item.name] == choice


@every_setting
def test_values_of_another_type_are_refused(group: type, item: dataclasses.Field[Any]) -> None:
    """A configuration file can hold anything; no value is converted silently, and none is a traceback."""
    kind = value_type(group, item)
    wrong: dict[type, list[Any]] = {
        int: ["four", 1.5, True, [1], 2.0],
        float: ["much", True, [1.0], math.nan, math.inf],
        bool: ["yes", 1, 0.0],
        str: [1, 1.0, True, ["cpu"]],
        Path: [1, True, ["runs"]],
    }
    for value in wrong[kind]:
        assert repr(value) in refusal(item.name, value)
    if item.default is not None:
        assert "None" in refusal(item.name, None)


def test_a_whole_number_will_do_where_any_number_will() -> None:
    assert TrainSettings.from_flat({"alignment_lambda": 3}).alignment.alignment_lambda == 3


def test_messages() -> None:
    assert refusal("n_workers", 0) == "--n-workers must be at least 1, got 0"
    assert refusal("discount", 1.5) == "--discount must be at least 0 and at most 1, got 1.5"
    assert refusal("learning_rate", 0.0) == "--learning-rate must be above 0, got 0.0"
    assert refusal("seed", 2**32) == "--seed must be at least 0 and at most 4294967295, got 4294967296"
    assert refusal("n_workers", "four") == "--n-workers must be a whole number, got 'four'"
    assert refusal("learning_rate", math.nan) == "--learning-rate must be a finite number, got nan"


def test_groups_check_their_values_however_they_are_built() -> None:
    with pytest.raises(SettingError):
        PPOSettings(discount=2.0)
    with pytest.raises(SettingError):
        dataclasses.replace(SearchSettings(), total_episodes=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AlignmentSettings().compliance = "any-session"  # type: ignore[misc]


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(SettingError) as caught:
        TrainSettings.from_flat({"n_workers": 2, "n_wokers": 4})
    assert "'n_wokers'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def allowed(group: type, item: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """Any value that a setting allows."""
    kind, rules = value_type(group, item), item.metadata
    if rules["choices"]:
        values: st.SearchStrategy[Any] = st.sampled_from(rules["choices"])
    elif kind is int:
        values = st.integers(int(rules["minimum"]), int(rules["maximum"] or 10**6))
    elif kind is float:
        lowest = rules["above"] if rules["minimum"] is None else rules["minimum"]
        values = st.floats(lowest, rules["maximum"] or 1e6, exclude_min=rules["above"] is not None)
    elif kind is bool:
        values = st.booleans()
    else:
        values = st.text("abcde-", min_size=1).map(kind)
    return values if item.default is not None else st.none() | values


@given(st.fixed_dictionaries({}, optional={item.name: allowed(group, item) for group, item in ITEMS}))
@settings(deadline=None, max_examples=60)
def test_flat_values_round_trip_also_through_json(values: dict[str, Any]) -> None:
    built = TrainSettings.from_flat(values)
    flat = built.to_flat()
    assert list(flat) == NAMES
    assert {name: flat[name] for name in values} == {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }
    assert TrainSettings.from_flat(flat) == built
    assert TrainSettings.from_flat(json.loads(json.dumps(flat))) == built


def test_a_toml_file_can_hold_every_setting() -> None:
    flat = {name: value for name, value in TrainSettings().to_flat().items() if value is not None}
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in flat.items())
    assert TrainSettings.from_flat(tomllib.loads(text)) == TrainSettings()


def test_paths_are_paths_again() -> None:
    built = TrainSettings.from_flat({"run_dir": "runs/one"})
    assert built.run == RunSettings(run_dir=Path("runs/one"))
    assert built.to_flat()["run_dir"] == str(Path("runs/one"))
