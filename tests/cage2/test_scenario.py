"""Scenario2's facts: complete, consistent, and what csle-cyborg makes of the official files."""

from __future__ import annotations

import enum
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from workflow_rl.cage2.cyborg import import_csle_cyborg
from workflow_rl.cage2.cyborg_scenario import cyborg_scenario
from workflow_rl.cage2.scenario import (
    ACTION_NAMES,
    AGENTS,
    HOST_NAMES,
    HOST_TYPES,
    HOSTS,
    NUM_ACTIONS,
    NUM_HOSTS,
    NUM_OBSERVATION_BITS,
    SUBNETS,
    action_index,
)
from workflow_rl.errors import SettingError
from workflow_rl.workflow import HostType

OFFICIAL_FILES = Path(__file__).parents[3] / "shared" / "facts" / "reference-scenario"

# SHA-256 of what csle-cyborg 0.0.3 makes of the official files (`_parsed`), so that a checkout without them
# still notices a fact that was changed.
OFFICIAL_DIGEST = "4ac6eb26942afe9c1fdff7aafc24e206590e11961e662669c6270d9ce541e8f4"


def test_sizes():
    assert (NUM_HOSTS, NUM_ACTIONS, NUM_OBSERVATION_BITS) == (13, 145, 52)


def test_every_action_is_found_by_its_name():
    for index, name in enumerate(ACTION_NAMES):
        assert action_index(*name.split()) == index


@pytest.mark.parametrize(
    ("kind", "host_name", "index"),
    [
        ("Sleep", None, 0),
        ("Monitor", None, 1),
        ("Analyse", "Defender", 2),
        ("Remove", "Defender", 15),
        ("DecoyVsftpd", "User4", 131),
        ("Restore", "Defender", 132),
        ("Restore", "User4", 144),
    ],
)
def test_actions_have_the_challenges_numbers(kind, host_name, index):
    assert action_index(kind, host_name) == index


@pytest.mark.parametrize(
    ("kind", "host_name"), [("Reboot", "User1"), ("Restore", "User5"), ("Restore", None), ("Sleep", "User1")]
)
def test_unknown_action_is_named(kind, host_name):
    with pytest.raises(SettingError, match=f"no action '{kind}.*expected Sleep or Monitor"):
        action_index(kind, host_name)


def test_host_types_follow_the_names():
    prefixes = {
        HostType.DEFENDER: "Defender",
        HostType.ENTERPRISE: "Enterprise",
        HostType.OP_SERVER: "Op_Server",
        HostType.OP_HOST: "Op_Host",
        HostType.USER: "User",
    }
    assert all(name.startswith(prefixes[kind]) for name, kind in zip(HOST_NAMES, HOST_TYPES, strict=True))


def test_every_host_is_in_one_subnet():
    assert sorted(name for subnet in SUBNETS for name in subnet.host_names) == sorted(HOST_NAMES)
    assert [host.subnet for host in HOSTS] == 4 * ["Enterprise"] + 4 * ["Operational"] + 5 * ["User"]


def test_all_names_that_are_mentioned_exist():
    mentioned = {name for host in HOSTS for name in host.reveals}
    mentioned |= {name for agent in AGENTS for name in agent.known_hosts}
    mentioned |= {session.host_name for agent in AGENTS for session in agent.starting_sessions}
    assert mentioned <= set(HOST_NAMES)
    assert {name for subnet in SUBNETS for name in subnet.closed_to} <= {subnet.name for subnet in SUBNETS}


def test_only_the_defender_keeps_its_password():
    assert [host.name for host in HOSTS if host.image.bruteforceable_user is None] == ["Defender"]


def test_services_run():
    for host in HOSTS:
        process_ids = {process.pid for process in host.image.processes}
        assert {service.pid for service in host.image.services} <= process_ids


def test_a_scenario_is_built_anew_for_every_simulator():
    first, second = cyborg_scenario(), cyborg_scenario()
    first["Agents"]["Blue"]["INT"]["Hosts"]["User0"]["Sessions"] = "Blue"
    assert "Sessions" not in second["Agents"]["Blue"]["INT"]["Hosts"]["User0"]
    assert "Sessions" not in second["Agents"]["Green"]["INT"]["Hosts"]["User0"]


def _official_scenario() -> dict[str, Any]:
    """The official files, merged as the reference's SimulationController._parse_scenario does."""
    yaml = pytest.importorskip("yaml")
    scenario = yaml.safe_load((OFFICIAL_FILES / "Scenario2.yaml").read_text())
    images = yaml.safe_load((OFFICIAL_FILES / "images" / "images.yaml").read_text())
    for host in scenario["Hosts"].values():
        path = OFFICIAL_FILES / "images" / f"{images[host.pop('image')]['path']}.yaml"
        host.update(yaml.safe_load(path.read_text())["Test_Host"])
    return scenario


# Kept by the simulator as it was written, and not read in the challenge.
UNREAD = {"scenario", "default_process_info", "open_ports"}


def _plain(value: Any) -> Any:
    """The simulator's objects as nested lists and dictionaries."""
    if isinstance(value, enum.Enum):
        return str(value.name)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if type(value).__module__.startswith("csle_cyborg."):
        plain = {name: _plain(item) for name, item in vars(value).items() if name not in UNREAD}
        if isinstance(plain.get("properties"), str):  # the simulator only asks whether "rfi" is in it
            plain["properties"] = [plain["properties"]]
        return plain
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def _parsed(scenario_dictionary: dict[str, Any]) -> dict[str, Any]:
    """All that csle-cyborg reads from a scenario, in the order it reads it."""
    from csle_cyborg.shared.red_reward_calculator import HybridImpactPwnRewardCalculator
    from csle_cyborg.shared.scenario import Scenario
    from csle_cyborg.simulator.state import State

    scenario = Scenario(scenario_dictionary)
    worth = HybridImpactPwnRewardCalculator("Red", scenario).pwn_calculator.mapping
    random.seed(7)  # the addresses and process ids that are drawn are compared too
    return {
        "agents": [_parsed_agent(scenario.get_agent_info(name)) for name in scenario.agents],
        "worth": {
            name: [
                worth[scenario.get_host(name).get(value, "Low")]
                for value in ("ConfidentialityValue", "AvailabilityValue")
            ]
            for name in scenario.hosts
        },
        "sizes": {name: scenario.get_subnet_size(name) for name in scenario.subnets},
        "state": _plain(State(scenario)),
    }


def _parsed_agent(agent: Any) -> dict[str, Any]:
    names = ("name", "actions", "adversary", "agent_type", "osint", "wrappers")
    session_names = ("name", "username", "session_type", "hostname", "parent", "event_artifacts")
    return {
        **{name: _plain(getattr(agent, name)) for name in names},
        "allowed_subnets": sorted(agent.allowed_subnets),  # the simulator makes a set of them
        "reward": agent.reward_calculator_type,
        "sessions": [
            {name: getattr(session, name) for name in session_names} for session in agent.starting_sessions
        ],
    }


@pytest.fixture
def _csle_cyborg():
    pytest.importorskip("csle_cyborg", reason="csle-cyborg is not installed")
    import_csle_cyborg()


@pytest.mark.usefixtures("_csle_cyborg")
@pytest.mark.skipif(
    not OFFICIAL_FILES.is_dir(), reason="the official scenario files are not beside the checkout"
)
def test_facts_equal_the_official_files():
    official = _parsed(_official_scenario())
    assert _parsed(cyborg_scenario()) == official
    assert _digest(official) == OFFICIAL_DIGEST


@pytest.mark.usefixtures("_csle_cyborg")
def test_facts_are_those_that_were_compared():
    assert _digest(_parsed(cyborg_scenario())) == OFFICIAL_DIGEST


def _digest(parsed: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parsed, sort_keys=True).encode()).hexdigest()
