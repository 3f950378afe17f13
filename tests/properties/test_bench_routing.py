"""The simulation of routing: the same world for every policy, nothing lost, figures that mean what they say."""

from __future__ import annotations

import pytest

from bench.routing import BUILT_IN, figures, load, makers
from bench.routing.choosers import LeastLoaded, Random
from bench.routing.scenario import Changes, ColdStart, LateJoiners, Outages, Scenario, Success, draw
from bench.routing.simulation import Simulation
from chargehand.domain.errors import BadConfiguration

ROUGH = Scenario(
    name="rough",
    agents=5,
    tasks=200,
    load=0.5,
    changes=Changes(every=4000),
    outages=Outages(every=3000, seconds=300),
    cold_start=ColdStart(runs=3, penalty=0.2),
    late_joiners=LateJoiners(share=0.2),
)


def test_the_same_seed_draws_the_same_world_and_another_does_not():
    assert draw(ROUGH, 1) == draw(ROUGH, 1)
    assert draw(ROUGH, 1).jobs != draw(ROUGH, 2).jobs


@pytest.mark.parametrize("name", makers())
def test_every_policy_starts_every_task_once_and_gives_the_same_again(name):
    first, second = (Simulation(draw(ROUGH, 3), makers()[name](ROUGH, 3)).run() for _ in range(2))
    assert len(first.first_tries) == len(first.waits) == ROUGH.tasks
    assert min(first.waits) >= 0
    assert (first.first_tries, first.waits) == (second.first_tries, second.waits)


def test_an_agent_that_is_gone_again_before_anybody_noticed_loses_its_work_once():
    flapping = Scenario(name="flapping", agents=4, tasks=200, outages=Outages(every=40, seconds=2))
    for seed in range(3):
        assert len(Simulation(draw(flapping, seed), LeastLoaded(flapping, seed)).run().first_tries) == flapping.tasks


def test_without_differences_every_policy_succeeds_as_often():
    alike = Scenario(name="alike", agents=4, tasks=400, load=0.3, success=Success(agent_spread=0, type_spread=0))
    rates = {
        name: figures([Simulation(draw(alike, 1), make(alike, 1)).run()], 70.0)["first_try_pct"]
        for name, make in makers().items()
    }
    assert len(set(rates.values())) == 1


def test_least_loaded_waits_less_than_random():
    waits = {
        chooser: figures([Simulation(draw(ROUGH, 1), chooser(ROUGH, 1)).run()], 0.0)["p95_wait_s"]
        for chooser in (Random, LeastLoaded)
    }
    assert waits[LeastLoaded] < waits[Random]


@pytest.mark.parametrize("load", [0.15, 0.8])
def test_the_default_waits_at_most_twice_as_long_as_least_loaded(load):
    pool = Scenario(name="pool", agents=6, tasks=800, load=load, changes=Changes(every=5000))
    waits = {
        name: figures([Simulation(draw(pool, 1), makers()[name](pool, 1)).run()], 0.0)["p95_wait_s"]
        for name in ("least_loaded", "learned")
    }
    assert waits["learned"] <= 2 * waits["least_loaded"]


def test_the_scenarios_that_come_with_it_can_be_read():
    names = [path.stem for path in BUILT_IN.glob("*/*.json")]
    assert len(names) == 15
    assert all(load(name).name == name for name in names)


def test_a_scenario_that_is_wrong_says_where(tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"name": "x", "success": {"mean": 2}}')
    with pytest.raises(BadConfiguration, match=r"success\.mean"):
        load(str(wrong))
    with pytest.raises(BadConfiguration, match="no scenario"):
        load("nowhere.json")
