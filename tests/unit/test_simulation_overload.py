"""The overload drill: its phases, and how its goodput is judged."""

from io import StringIO
from time import process_time, sleep

import pytest
from rich.console import Console

from onhand.offline.simulation.load import is_punctual
from onhand.offline.simulation.overload import (
    BEFORE_S,
    CALM_S,
    CLIMB,
    STEP_S,
    Goodput,
    draw_overload,
    goodput,
    plan_drill,
)
from onhand.offline.simulation.plan import Phase
from onhand.offline.simulation.run import Result
from onhand.offline.simulation.score import STACKS, Second, Window
from onhand.offline.simulation.yardstick import Yardstick

USUAL = Phase(0, 1000, 300, 70)


def drilled(seconds: list[Second]) -> Result:
    drill = plan_drill(USUAL, 10, len(OVERLOAD))
    whole = Window(0.0, float(len(seconds)), 1, 1, 0, 0, 1.0, 1.0, 1.0)
    none = [0] * len(STACKS)
    return Result(
        7, drill.phases, 2, whole, seconds, [], STACKS, none, none, 0, 0, 0, 0, 0, 0, 0.0, 0.0,
        fault=drill.overload,
    )  # fmt: skip


def judged(seconds: list[Second]) -> Goodput:
    return goodput(seconds, plan_drill(USUAL, 10, len(OVERLOAD)).overload)


def played(in_time: list[int]) -> list[Second]:
    return [
        Second(at_s, answered=count, in_time=count, work_us=100.0)
        for at_s, count in enumerate(in_time)
    ]


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


def test_the_load_is_punctual_where_it_leaves_the_server_a_processor():
    drill = plan_drill(USUAL, 10, 4)
    end_s = int(drill.calm_end_s) + 6
    rate = drill.front.punctual_rate
    first = [is_punctual(drill.phases, rate, now_s) for now_s in range(end_s)]
    calm = [True] * int(BEFORE_S), [True] * int(CALM_S)
    assert first == [*calm[0], *[False] * 4, *calm[1], *[False] * 6]
    assert all(is_punctual(drill.phases, None, now_s) for now_s in range(end_s))


CALM, AGAIN = [1000] * int(BEFORE_S), [1000] * int(CALM_S)
CLIMBED = [1500, 1800, 1500] + [2100, 2000, 1900] + [900] * (int(STEP_S) * len(CLIMB) - 6)
OVERLOAD = [50, 1900, 1600, 1900, 1300, 1900]
"""Its stretches of a step's length: 1800, 1600, 1700."""


def test_goodput_is_judged_against_the_best_step_of_the_climb_by_stretches_as_long():
    good = judged(played([*CALM, *OVERLOAD, *AGAIN, *CLIMBED]))
    assert (good.peak.pages, good.worst.pages, good.median.pages) == (2000, 1600, 1700)
    assert good.worst_second.pages == 1300
    assert good.best == good.peak


@pytest.mark.parametrize("flaw", ["degraded", "failed"])
def test_the_peak_of_the_best_pages_is_one_in_which_there_are_no_others(flaw: str):
    seconds = played([*CALM, *OVERLOAD, *AGAIN, *CLIMBED])
    (middle,) = [second for second in seconds if second.in_time == 2000]
    if flaw == "degraded":
        middle.degraded = {"popular": 100}
    else:
        middle.failed = 100
    good = judged(seconds)
    assert (good.best.pages, good.peak.pages) == (1600, 2000)


@pytest.mark.parametrize(
    ("work_us", "even", "works_us"),
    [(160.0, 1800, (100.0, 100.0, 160.0)), (0.0, 1600, (100.0, 100.0, 100.0))],
    ids=["slower, so that another is the worst", "not measured"],
)
def test_a_stretch_on_a_slower_processor_counts_for_more_at_the_peaks_speed(
    work_us: float, even: float, works_us: tuple[float, float, float]
):
    seconds = played([*CALM, 50, 1600, 1600, 1600, 1900, 1900, *AGAIN, *CLIMBED])
    seconds[int(BEFORE_S) + 2].work_us = work_us
    good = judged(seconds)
    assert (good.peak, good.worst) == ((2000, 2000), (1600, even))
    assert good.work_us == works_us


def test_the_table_says_how_much_of_each_peak_is_left():
    seconds = played([*CALM, *OVERLOAD, *AGAIN, *CLIMBED])
    (middle,) = [second for second in seconds if second.in_time == 2000]
    middle.failed = 100
    console = Console(width=100, record=True, file=StringIO())
    console.print(draw_overload(drilled(seconds)))
    rows = {" ".join(line.split()) for line in console.export_text().splitlines()}
    assert rows > {
        "peak, pages at their best 1,600 100% 80% 80%",
        "peak of the climb 2,000 125% 100% 100%",
        "overload, at the median 1,700 106% 85% 85%",
        "overload, worst 3 s 1,600 100% 80% 80%",
        "overload, worst second 1,300 81% 65% 65%",
    }


@pytest.mark.parametrize(
    ("reached", "peak", "worst"),
    [
        ([], 0, 0),
        ([50, 1900], 0, 1900),
        (OVERLOAD, 0, 1600),
        ([*OVERLOAD, *AGAIN, 1500, 1500, 1500, 2000], 1500, 1600),
    ],
    ids=["before the overload", "within a stretch", "before the climb", "within a step"],
)
def test_a_drill_that_was_ended_early_has_what_it_reached(
    reached: list[int], peak: int, worst: int
):
    seconds = played([*CALM, *reached])
    good = judged(seconds)
    assert (good.peak.pages, good.best.pages, good.worst.pages) == (peak, peak, worst)
    draw_overload(drilled(seconds))


def test_the_yardstick_reads_a_processor_and_leaves_it_to_others():
    with Yardstick() as yardstick:
        began_s = process_time()
        sleep(0.3)
        took_us = yardstick.read_us()
        assert process_time() - began_s < 0.1
    assert 5 < took_us < 5_000
