"""The overload drill: its phases, and how its goodput is judged."""

from onhand.offline.simulation.overload import (
    BEFORE_S,
    CALM_S,
    CLIMB,
    STEP_S,
    goodput,
    plan_drill,
)
from onhand.offline.simulation.plan import Phase
from onhand.offline.simulation.run import Result
from onhand.offline.simulation.score import STACKS, Second, Window

USUAL = Phase(0, 1000, 300, 70)


def drilled(in_time: list[int]) -> Result:
    drill = plan_drill(USUAL, 10, 4)
    seconds = [Second(at_s, in_time=count) for at_s, count in enumerate(in_time)]
    whole = Window(0.0, float(len(in_time)), 1, 1, 0, 0, 1.0, 1.0, 1.0)
    none = [0] * len(STACKS)
    return Result(
        7, drill.phases, 2, whole, seconds, [], STACKS, none, none, 0, 0, 0, 0, 0, 0, 0.0, 0.0,
        fault=drill.overload,
    )  # fmt: skip


def test_everything_is_ten_times_as_much_between_two_calms_and_before_a_climb():
    drill = plan_drill(USUAL, 10, 4)
    calm, overload, again, *climb = drill.phases
    assert calm == Phase(BEFORE_S, 1000, 300, 70)
    assert again == Phase(CALM_S, 1000, 300, 70)
    assert overload == Phase(4, 10_000, 3000, 700)
    assert [phase.rate for phase in climb] == [1000 * step for step in CLIMB]
    assert (drill.overload.at_s, drill.overload.end_s) == (calm.seconds, calm.seconds + 4)
    assert drill.calm_end_s == drill.overload.end_s + again.seconds
    assert not drill.overload.switched


def test_goodput_is_judged_against_the_best_second_of_the_climb():
    calm, again = [1000] * int(BEFORE_S), [1000] * int(CALM_S)
    climb = [1250, 1500, 2000, 1700] + [900] * (int(STEP_S) * len(CLIMB) - 4)
    result = drilled([*calm, 50, 1900, 1600, 1800, *again, *climb])
    good = goodput(result)
    assert (good.peak, good.worst, good.median) == (2000, 1600, 1800)


def test_a_drill_that_was_ended_early_has_no_goodput_under_overload():
    good = goodput(drilled([1000] * int(BEFORE_S)))
    assert (good.peak, good.worst, good.median) == (1000, 0, 0.0)
