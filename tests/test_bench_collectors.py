"""`workflow-rl bench collectors`: its theory, its arithmetic, its report. No test depends on a time."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bench import program

from workflow_rl.bench.barrier import sigma_for, slowest_episode_of, slowest_lognormal, slowest_measured
from workflow_rl.bench.collectors import busy_warning
from workflow_rl.bench.contest import System, take_turn
from workflow_rl.bench.figures import confidence, speed_up
from workflow_rl.bench.four import missing_extra
from workflow_rl.bench.latency import Waits
from workflow_rl.bench.pairs import NumpyPolicy
from workflow_rl.bench.plan import SECTIONS, Options, Plan
from workflow_rl.bench.plots import draw
from workflow_rl.bench.regimes import latency_regime
from workflow_rl.bench.timing import Spread
from workflow_rl.bench.turn import Turn
from workflow_rl.episode import NetworkShape
from workflow_rl.errors import SettingError
from workflow_rl.inference import Actor
from workflow_rl.policy import ActorCritic
from workflow_rl.rollout import make_environment
from workflow_rl.seeding import Stream, episode_key
from workflow_rl.settings import CollectorSettings

NOTHING_GIVEN: dict[str, Any] = {
    "regime": None,
    "env": None,
    "env_kwargs": "{}",
    "sigma": None,
    "mean_step_ms": None,
    "reset_seconds": None,
    "step_times": None,
    "sections": None,
    "collector": (),
    "workers": None,
    "compare_at": None,
    "lag": 2,
    "episodes_per_update": None,
    "rounds": None,
    "seconds": None,
    "quick": False,
}


def options(**given: Any) -> Options:
    return Options(**{**NOTHING_GIVEN, **given})


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ("-c", "from workflow_rl.cli import main; main()", "bench", "collectors")
    return program(*command, *arguments)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all sections but Ray's, with short steps and few workers."""
    file = tmp_path_factory.mktemp("bench") / "report.json"
    short = ("--quick", "--workers=1,2", "--rounds=1", "--seconds=0.05", "--mean-step-ms=0.2", "--sigma=1")
    done = bench("--sections=scaling,causes,tails", *short, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "where the speed-up comes from, 2 workers" in done.stdout
    result: dict[str, Any] = json.loads(file.read_text())
    return result


@pytest.mark.benchmarks
def test_the_report_holds_every_collector_at_every_worker_count(report):
    counts = report["scaling"]["by_workers"]
    assert [count["n_workers"] for count in counts] == [1, 2]
    for count in counts:
        assert count["ideal"]["workers"] == pytest.approx(count["n_workers"] / (100 * 0.0002))
        assert count["systems"].keys() == {"executor", "synchronous", "sequential"}
        for name, figures in count["systems"].items():
            assert figures["cold_episodes_per_second"]["median"] > 0
            assert figures["cpu_seconds_per_episode"]["median"] > 0
            assert 0 <= figures["update"]["hidden_update"]["median"] <= 1
            assert figures["speed_up"].get(name, {"median": 1})["median"] == 1
            update = {key: spread["median"] for key, spread in figures["update"].items()}
            assert update["waiting_share"] + update["updating_share"] == pytest.approx(1)
        started = {name: figures["processes"] for name, figures in count["systems"].items()}
        assert started == {"executor": count["n_workers"], "synchronous": count["n_workers"], "sequential": 0}
    (rise,) = report["scaling"]["rises"]
    assert (rise["from"], rise["to"], rise["workers"]) == (1, 2, 2)


@pytest.mark.benchmarks
def test_the_causes_multiply_to_the_whole(report):
    causes = report["causes"]
    chain = [factor["times"]["median"] for factor in causes["factors"] if factor["is_in_chain"]]
    assert len(chain) == 4
    assert np.prod(chain) == pytest.approx(causes["whole"]["times"]["median"])
    assert {"compiled inference", "environment kept", "workers kept"} <= {
        factor["name"] for factor in causes["factors"]
    }


@pytest.mark.benchmarks
def test_tails_are_measured_beside_theory(report):
    tails = report["tails"]
    assert [point["sigma"] for point in tails["measured"]] == [0, 1.25]
    assert tails["measured"][0]["over_equal_steps"] == 1
    assert [point["theory"] for point in tails["measured"]] == pytest.approx([1, slowest_lognormal(2, 1.25)])
    assert tails["reported"]["sigma"] is None, "two workers never gain 67 times"


@pytest.mark.benchmarks
def test_the_report_can_be_drawn(report, tmp_path):
    draw(report, tmp_path)
    names = {"throughput.png", "breakdown.png", "timeline.png", "tails.png"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())


@pytest.mark.ray
def test_all_four_stand_side_by_side(tmp_path):
    file = tmp_path / "report.json"
    done = bench("--sections=four", "--quick", "--compare-at=2", "--rounds=1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    four = json.loads(file.read_text())["four"]
    assert four["systems"].keys() == {"executor", "ray", "synchronous", "sequential"} == four["needs"].keys()
    assert four["systems"]["ray"]["processes"] > 2
    assert "MB on disk" in four["needs"]["ray"]


def test_without_ray_its_row_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    for module in ("ray_actors", "ray_connection"):  # whoever ran before may have loaded them
        monkeypatch.delitem(sys.modules, f"workflow_rl.collectors.{module}", raising=False)
    assert "pip install 'workflow-rl[ray]'" in str(missing_extra())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"workers": "0"}, "--workers"),
        ({"workers": "ten"}, "--workers"),
        ({"sections": "four,five"}, "five"),
        ({"sections": "tails", "regime": "native"}, "tails"),
        ({"collector": ("executor", "threads")}, "--collector must be one of"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(given, named):
    with pytest.raises(SettingError, match=named):
        options(**given).to_plan()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"regime": "slow"}, "latency, reference, native"),
        ({"env": "CartPole-v1", "sigma": 1.0}, "--sigma does not go with --env"),
        ({"env": "CartPole-v1", "regime": "native"}, "--regime does not go with --env"),
        ({"regime": "native", "reset_seconds": 1.0}, "--reset-seconds does not go with --regime native"),
        ({"sigma": -0.5}, "--sigma"),
        ({"mean_step_ms": 0.0}, "--mean-step-ms"),
        ({"env": "Nowhere-v0"}, "Nowhere-v0 cannot be made"),
        ({"step_times": Path("/nowhere")}, "--step-times /nowhere cannot be read"),
        ({"step_times": Path(__file__)}, "expected seconds"),
        ({"step_times": Path("times"), "sigma": 1.0}, "--sigma does not go with --step-times"),
    ],
)
def test_a_regime_that_cannot_be_is_refused(given, named):
    with pytest.raises(SettingError, match=named):
        options(**given).to_regime()


def test_bad_input_is_one_line_and_writes_nothing(tmp_path):
    done = bench("--sigma=-1", "--json", str(tmp_path / "report.json"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_options_complete_the_plan():
    assert options().to_plan() == Plan()
    assert options(regime="reference").to_plan().sections == SECTIONS[:-1]
    plan = options(quick=True, workers="7,3", rounds=4, sections="causes,scaling").to_plan()
    assert (plan.worker_counts, plan.rounds, plan.sections) == ((3, 7), 4, ("scaling", "causes"))
    plan = options(collector=("ray",)).to_plan()
    assert (plan.collectors, plan.sections) == (("ray", "sequential"), ("scaling",))
    waits = options(sigma=1.25, mean_step_ms=2.0, reset_seconds=1.0).to_regime().waits
    assert waits == Waits(mean_step=0.002, sigma=1.25, shortest_reset=0.5, longest_reset=1.5)


def test_measured_step_times_are_played(tmp_path):
    file = tmp_path / "times"
    file.write_text("0.0001, 0.0003\n0.0001\n")
    regime = options(step_times=file).to_regime()
    assert regime.waits is not None
    assert regime.waits.mean_step == pytest.approx(0.0005 / 3)
    environment = make_environment(regime.environment).unwrapped
    environment.reset(seed=0)
    assert set(environment._step_seconds) == {0.0001, 0.0003}


@pytest.mark.parametrize(("n", "sigma"), [(2, 0.5), (10, 1.25), (100, 0.5)])
def test_the_slowest_of_log_normal_steps_is_as_simulated(n, sigma):
    steps = np.random.default_rng(0).lognormal(-(sigma**2) / 2, sigma, (20_000, n))
    error = steps.max(axis=1).std() / np.sqrt(len(steps))
    assert slowest_lognormal(n, sigma) == pytest.approx(steps.max(axis=1).mean(), abs=4 * error)


def test_the_slowest_of_measured_steps_is_as_enumerated():
    times = np.array([0.3, 0.1, 2.0, 0.1])
    slowest = np.mean([max(three) for three in itertools.product(times, repeat=3)])
    assert slowest_measured(3, times) == pytest.approx(slowest / times.mean())


def test_the_tail_for_a_speed_up():
    sigma = sigma_for(67.0, 100)
    assert sigma is not None
    assert slowest_lognormal(100, sigma) == pytest.approx(67.0)
    assert sigma_for(67.0, 50) is None
    assert slowest_lognormal(1, 1.0) == pytest.approx(1.0)


def test_the_last_episode_of_a_batch_is_late_by_its_deviations():
    waits = Waits(sigma=0.1)
    deviation = np.sqrt((np.exp(waits.sigma**2) - 1) / waits.num_steps)
    largest_of_100 = 2.508  # of normal variables, in deviations; episodes are nearly normal sums
    assert slowest_episode_of(100, waits) == pytest.approx(1 + largest_of_100 * deviation, rel=0.001)


def turn_of(collector: str, *, lag: int) -> Turn:
    regime = latency_regime(Waits(mean_step=0.0002, sigma=0.5))
    settings = CollectorSettings(collector=collector, n_workers=2, lag=lag)
    return take_turn(System(collector, settings, 4, regime), seconds=0.2)


def test_a_turn_counts_what_was_paid_for():
    executor, synchronous = turn_of("executor", lag=1), turn_of("synchronous", lag=0)
    for turn in (executor, synchronous):
        assert turn.updates >= 2
        assert turn.wall_seconds >= 0.2
        assert turn.episodes == 4 * turn.updates
        assert turn.memory.num_processes >= 2
        assert turn.cpu_seconds.others > 0
        assert 0 < turn.update_seconds < turn.wall_seconds
    assert 0 < executor.busy_in_updates <= 1
    assert synchronous.busy_in_updates == 0, "nobody plays while it updates"
    assert synchronous.hidden_collection == 0
    assert {row for row, _, _ in executor.timeline.episodes} == {0, 1}
    assert speed_up([executor], [executor]) == Spread(1.0, 1.0, 1.0)


def test_the_policy_in_numpy_is_the_compiled_one():
    shape = NetworkShape(num_observations=52, num_context=25, hidden_size=64, num_actions=145)
    snapshot = ActorCritic(shape).snapshot(0)
    draws = np.random.default_rng(1)
    context = draws.integers(2, size=25).astype(np.float32)
    compiled, in_numpy = Actor(snapshot), NumpyPolicy(snapshot)
    compiled.begin_episode(context, episode_key(0, Stream.TRAINING_EPISODE, 0), greedy=False)
    for observation in draws.integers(2, size=(20, 52), dtype=np.uint8):
        action, log_prob = in_numpy.act(observation, context)
        logits = compiled.logits(observation).astype(np.float64)
        assert log_prob == pytest.approx(logits[action] - np.log(np.exp(logits).sum()), abs=1e-5)


def test_an_interval_says_how_sure_it_is():
    assert confidence(5) == pytest.approx(0.9375)
    assert confidence(1) == 0


@pytest.mark.parametrize(("foreign", "is_busy"), [(0.05, False), (0.5, True)])
def test_other_processes_are_named(foreign, is_busy):
    assert (busy_warning(foreign, cores=2) is not None) == is_busy
