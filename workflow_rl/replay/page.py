"""A recorded episode as one HTML file that needs nothing else: no network, no other file.

The network is drawn once, as SVG, with a card for each host; the page's script fills in the step that is
shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from workflow_rl.cage2.scenario import HOST_NAMES, HOSTS
from workflow_rl.html_page import render_page
from workflow_rl.replay.recording import Frame
from workflow_rl.run_directory import RunDirectory

WIDTH = 560
"""Of the drawing, in its own units: at 360 pixels, the width of a phone, a letter is still 10 pixels high."""
_SUBNET_HEIGHT = 158
_SUBNET_GAP = 34
_CARD_WIDTH, _CARD_HEIGHT = 104, 112
_CARD_TOP = 36
"""Of a card within its subnet, below the subnet's name."""

_ROWS: dict[str, tuple[str, ...]] = {
    "User": ("User0", "User1", "User2", "User3", "User4"),
    "Enterprise": ("Defender", "Enterprise1", "Enterprise0", "Enterprise2"),
    "Operational": ("Op_Host0", "Op_Host1", "Op_Host2", "Op_Server0"),
}
"""The hosts from left to right, so that ways from one subnet to the next do not cross."""


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode that was recorded, and what it is.

    Attributes:
        policy: name of its file.
        red_agent: the attacker.
        simulator: which one, and by which rules.
        seed: of the evaluation episodes.
        number: among them.
        actions: how blue chose: "sampled" or "most probable".
        workflow: the host types in order, most urgent first; `None` for a policy without an order.
        compliance: the definition it is judged by; `None` likewise.
        frames: one for the start and one for each step.
        usual_reward: mean of many episodes of the same policy, attacker and seed; `None` where it would take
            long.
    """

    policy: str
    red_agent: str
    simulator: str
    seed: int
    number: int
    actions: str
    workflow: tuple[str, ...] | None
    compliance: str | None
    frames: tuple[Frame, ...]
    usual_reward: float | None


@dataclass(frozen=True)
class _Card:
    """Where a host is drawn: the upper left corner of its card.

    Attributes:
        index: in `HOST_NAMES`.
    """

    index: int
    name: str
    left: float
    top: float
    width: float = _CARD_WIDTH
    height: float = _CARD_HEIGHT


@dataclass(frozen=True)
class _Subnet:
    """Where a subnet is drawn."""

    name: str
    top: float
    height: float
    cards: tuple[_Card, ...]


@dataclass(frozen=True)
class _Way:
    """A line from a host to another one that red finds by exploring it."""

    start: tuple[float, float]
    end: tuple[float, float]


def write_page(episode: RecordedEpisode, file: Path) -> None:
    """Write the page atomically.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    RunDirectory(file.parent).write_bytes(file.name, page(episode).encode())


def page(episode: RecordedEpisode) -> str:
    """The page of an episode, HTML."""
    subnets = _subnets()
    recording = {**asdict(episode), "hosts": [_host_facts(name) for name in HOST_NAMES]}
    return render_page(
        "workflow_rl.replay",
        "replay",
        episode=episode,
        recording=recording,
        subnets=subnets,
        ways=_ways(subnets),
        width=WIDTH,
        height=subnets[-1].top + subnets[-1].height,
    )


def _host_facts(name: str) -> dict[str, str]:
    host = HOSTS[HOST_NAMES.index(name)]
    return {"name": name, "type": host.host_type.label, "subnet": host.subnet}


def _subnets() -> tuple[_Subnet, ...]:
    return tuple(
        _subnet(name, row * (_SUBNET_HEIGHT + _SUBNET_GAP), names)
        for row, (name, names) in enumerate(_ROWS.items())
    )


def _subnet(name: str, top: float, host_names: tuple[str, ...]) -> _Subnet:
    column = WIDTH / len(host_names)
    cards = tuple(
        _Card(HOST_NAMES.index(host), host, (i + 0.5) * column - _CARD_WIDTH / 2, top + _CARD_TOP)
        for i, host in enumerate(host_names)
    )
    return _Subnet(name, top, _SUBNET_HEIGHT, cards)


def _ways(subnets: tuple[_Subnet, ...]) -> tuple[_Way, ...]:
    """From each host down to those of another subnet that it reveals."""
    cards = {card.name: card for subnet in subnets for card in subnet.cards}
    return tuple(
        _Way(
            (cards[host.name].left + _CARD_WIDTH / 2, cards[host.name].top + _CARD_HEIGHT),
            (cards[target].left + _CARD_WIDTH / 2, cards[target].top),
        )
        for host in HOSTS
        for target in host.reveals
        if target != host.name
    )
