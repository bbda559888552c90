import math

import pytest

from training.clock import Clock, Every
from training.recipe import Schedule


def clock(steps=0, seconds=0.0, **schedule):
    made = Clock(Schedule(**{"iterations": 100, "warmup": 0, **schedule}))
    made.load_state_dict({"steps": steps, "seconds": seconds})
    return made


@pytest.mark.parametrize(("steps", "wanted"), [(0, 1), (50, 0.5), (100, 0)])
def test_the_cosine_falls_from_one_to_nothing(steps, wanted):
    assert clock(steps).share == pytest.approx(wanted)


def test_the_cosine_ends_at_its_floor():
    assert clock(100, floor=0.001).share == pytest.approx(0.001)
    assert clock(0, floor=0.001).share == 1


def test_a_warm_up_begins_with_one_step_of_it():
    assert clock(0, warmup=10).share == pytest.approx(0.1)
    assert clock(9, warmup=10, halve_every=1000).share == 1


@pytest.mark.parametrize(("steps", "wanted"), [(0, 1), (39, 1), (40, 0.5), (85, 0.25)])
def test_a_rate_is_halved_every_so_often(steps, wanted):
    assert clock(steps, halve_every=40).share == wanted


@pytest.mark.parametrize(("steps", "wanted"), [(0, 1), (10, 0.5), (29, 0.5), (30, 0.25)])
def test_a_rate_is_halved_at_certain_steps(steps, wanted):
    assert clock(steps, halve_at=(10, 30)).share == wanted


def test_a_time_budget_ends_the_run_and_anneals_it():
    half = clock(3, seconds=5.0, time_budget_s=10.0)
    assert half.progress == 0.5
    assert half.share == pytest.approx(0.5)
    assert clock(3, seconds=11.0, time_budget_s=10.0).over
    assert clock(3, seconds=5.0, time_budget_s=10.0, halve_every=40).share == 0.5


def test_what_remains_is_as_long_as_it_took():
    assert clock(25, seconds=50.0).remaining_s == pytest.approx(150)
    assert clock().remaining_s == math.inf


def test_a_clock_that_is_stopped_is_over_for_now():
    made = clock()
    made.advance(2.0, stop=False)
    assert not made.over
    made.advance(1.0, stop=True)
    assert made.over
    assert made.state_dict() == {"steps": 2, "seconds": 3.0}
    again = clock()
    again.load_state_dict(made.state_dict())
    assert not again.over


def test_every_is_true_when_its_time_has_come(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("training.clock.time.monotonic", lambda: now[0])
    due, seen = Every(10), []
    for now[0] in (5.0, 10.0, 15.0, 20.0):
        seen.append(due())
    assert seen == [False, True, False, True]
