"""What a heartbeat tells of a worker, and what players tell the heartbeat."""

from __future__ import annotations

import os
import time
from pathlib import Path

from awkward_environments import specification
from played import CAGE2, UNEVEN, snapshot, tickets

from workflow_rl.collectors.heartbeats import Beat, Heartbeat, forget_beat, read_beat
from workflow_rl.episode import EnvironmentSpec, Ticket
from workflow_rl.rollout import Player


def test_a_beat_names_the_call_and_the_episodes_that_began_last(tmp_path: Path) -> None:
    assert read_beat(tmp_path, os.getpid()) is None
    heartbeat = Heartbeat(tmp_path)
    assert read_beat(tmp_path, os.getpid()) == Beat(heartbeat_time(tmp_path), -1, 0, 0)
    before = time.monotonic()
    heartbeat.begin(7)
    assert before <= heartbeat_time(tmp_path) <= time.monotonic()
    assert read_beat(tmp_path, os.getpid()) == Beat(heartbeat_time(tmp_path), 7, 0, 1)
    heartbeat.announce(3, 4)
    beat = read_beat(tmp_path, os.getpid())
    assert beat == Beat(heartbeat_time(tmp_path), 7, 3, 4)
    assert beat is not None
    assert list(beat.positions) == [3, 4, 5, 6]
    forget_beat(tmp_path, os.getpid())
    assert read_beat(tmp_path, os.getpid()) is None


def heartbeat_time(directory: Path) -> float:
    beat = read_beat(directory, os.getpid())
    assert beat is not None
    return beat.started


def announced(asked: list[Ticket]) -> list[tuple[int, int]]:
    """What a player says while it plays, repetitions left out."""
    said: list[tuple[int, int]] = []
    player = Player(lambda first, count: said.append((first, count)))
    player.play(asked, snapshot(0, asked[0].environment))
    player.close()
    return list(dict.fromkeys(said))


def in_turn(*environments: EnvironmentSpec) -> list[Ticket]:
    return [ticket for i, one in enumerate(environments) for ticket in tickets([i], environment=one)]


def test_a_player_announces_every_episode() -> None:
    other = specification("Uneven", longest=2)
    assert announced(in_turn(UNEVEN, UNEVEN, other, UNEVEN)) == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_compiled_episodes_are_announced_together_once_their_environment_is_there() -> None:
    other = EnvironmentSpec.of(CAGE2.id, {"red_agent": "B_lineAgent", "max_steps": 3})
    assert announced(in_turn(CAGE2, CAGE2, other, other, other)) == [(0, 1), (0, 2), (2, 1), (2, 3)]
