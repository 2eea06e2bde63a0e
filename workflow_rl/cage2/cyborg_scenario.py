"""Scenario2 in the form that csle-cyborg reads.

`csle_cyborg.main.Main` takes a scenario as a nested dictionary, each host's image already merged into the
host (`csle_cyborg/simulator/simulation_controller.py`, `_parse_scenario`, shows the form). Its wheel ships
neither scenario nor images, so the dictionary is built here from the facts in `scenario`. What csle-cyborg
never reads is left out: the transport protocols of ports, cloud settings, the number of a session's children.
"""

from __future__ import annotations

from typing import Any

from workflow_rl.cage2.scenario import (
    AGENTS,
    HOSTS,
    SUBNETS,
    Agent,
    Host,
    Image,
    OperatingSystem,
    Process,
    StartingSession,
    Subnet,
    User,
)

_SYSTEM_INFO = {
    OperatingSystem.LINUX: {
        "Architecture": "x64",
        "OSDistribution": "UBUNTU",
        "OSType": "LINUX",
        "OSVersion": "U18_04_3",
    },
    OperatingSystem.WINDOWS: {
        "Architecture": "x64",
        "OSDistribution": "WINDOWS_SVR_2008",
        "OSType": "WINDOWS",
        "OSVersion": "W6_1_7601",
    },
}

# The reward of blue is what the challenge scores; red's and green's are computed too, and read by nobody.
_REWARD_CALCULATORS = {
    "Blue": "HybridAvailabilityConfidentiality",
    "Green": "None",
    "Red": "HybridImpactPwn",
}


def cyborg_scenario() -> dict[str, Any]:
    """Scenario2 as the argument of `csle_cyborg.main.Main`.

    Returns:
        A new dictionary on every call: the simulator writes into it (`shared/environment_controller.py`,
        `EnvironmentController.__init__`, adds each agent's sessions to what the agent knows).
    """
    return {
        "Agents": {agent.name: _agent(agent) for agent in AGENTS},
        "Hosts": {host.name: _host(host) for host in HOSTS},
        "Subnets": {subnet.name: _subnet(subnet) for subnet in SUBNETS},
    }


def _agent(agent: Agent) -> dict[str, Any]:
    """An agent's entry; it sleeps unless the caller of the simulator puts another one in its place."""
    return {
        "AllowedSubnets": [subnet.name for subnet in SUBNETS],
        "INT": {"Hosts": {host_name: _knowledge(agent) for host_name in agent.known_hosts}},
        "actions": list(agent.actions),
        "adversary": agent.adversary,
        "agent_type": "SleepAgent",
        "reward_calculator_type": _REWARD_CALCULATORS[agent.name],
        "starting_sessions": [_session(session) for session in agent.starting_sessions],
        "wrappers": [],
    }


def _knowledge(agent: Agent) -> dict[str, str]:
    knowledge = {"Interfaces": "All", "System info": "All"}
    return knowledge | {"User info": "All"} if agent.knows_users else knowledge


def _session(session: StartingSession) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "hostname": session.host_name,
        "name": session.name,
        "type": session.kind,
        "username": session.user,
        "artifacts": list(session.artifacts),
    }
    if session.parent is not None:
        entry["parent"] = session.parent
    return entry


def _host(host: Host) -> dict[str, Any]:
    return {
        "ConfidentialityValue": host.confidentiality.name.capitalize(),
        "AvailabilityValue": host.availability.name.capitalize(),
        "info": _revealed(host),
        **_image(host.image),
    }


def _revealed(host: Host) -> dict[str, dict[str, Any]]:
    """What red learns when it explores the host: all about the host itself, the address of the others."""
    revealed: dict[str, dict[str, Any]] = {
        name: {"Interfaces": "All" if name == host.name else "IP Address"} for name in host.reveals
    }
    if host.image.services:
        revealed[host.name]["Services"] = [service.name for service in host.image.services]
    return revealed


def _image(image: Image) -> dict[str, Any]:
    return {
        "System info": dict(_SYSTEM_INFO[image.operating_system]),
        "Processes": [_process(process) for process in image.processes],
        "User Info": [_user(user) for user in image.users],
        "Services": {service.name: {"active": True, "PID": service.pid} for service in image.services},
    }


def _process(process: Process) -> dict[str, Any]:
    return {
        "PID": process.pid,
        "PPID": process.parent_pid,
        "Process Name": process.name,
        "Process Type": process.kind.value,
        "Process Version": process.version,
        "Path": process.path,
        "Username": process.user,
        "Properties": list(process.properties),
        "Connections": [{"local_address": process.address, "local_port": port} for port in process.ports],
    }


def _user(user: User) -> dict[str, Any]:
    groups = [] if user.group is None else [{"GID": user.group.group_id, "Group Name": user.group.name}]
    return {
        "Username": user.name,
        "UID": user.user_id,
        "Groups": groups,
        "Password": user.password,
        "Bruteforceable": user.bruteforceable,
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    """A subnet's entry; the text "None", not Python's None, is what closes it to another one."""
    rules = {source: {"in": "None", "out": "all"} for source in subnet.closed_to}
    return {
        "Hosts": list(subnet.host_names),
        "NACLs": rules | {"all": {"in": "all", "out": "all"}},
        "Size": subnet.size,
    }
