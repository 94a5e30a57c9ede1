"""The overload drill: ten times the usual load for a while, and what is still answered in time.

    calm at the usual rate · overload · calm again · a climb, to find what the server can do

*Goodput* is pages answered within the deadline, a second. Its *peak* is the best step of the climb,
in which everything grows alike: pages, events, stock. The climb goes on behind the load at which
pages become cheaper, so there are two: the peak of all, and that with every page at its best. A
server that is good at overload goes on at its peak, and turns the rest away; a bad one answers
everybody too late. The overload is judged by all its stretches that are as long as a step: the best
of steps and the worst of seconds would differ where nothing but chance does.

Pages come as through a load balancer: over a fixed number of connections, and whoever finds none
free is turned away there.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onhand.offline.simulation.plan import Phase
from onhand.offline.simulation.run import Fault, Front, Result
from onhand.offline.simulation.score import Second

__all__ = ["CONNECTIONS", "Drill", "draw_overload", "goodput", "plan_drill"]

BEFORE_S: Final = 8.0
CALM_S: Final = 40.0
"""After the overload: time to recover, and to take what was refused."""
STEP_S: Final = 3.0
CLIMB: Final = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0)
"""Times the usual rate."""
CONNECTIONS: Final = 128
WHOLE: Final = 0.99


class Drill(NamedTuple):
    """The phases of a drill, when its overload is, and where its second calm ends."""

    phases: list[Phase]
    overload: Fault
    calm_end_s: float
    front: Front


class Rate(NamedTuple):
    """Pages in time a second; `even` is how many they would be at the processor's speed at the
    peak, where both were measured."""

    pages: float
    even: float


NONE: Final = Rate(0.0, 0.0)
_NO_SECOND: Final = Second(0)


class Goodput(NamedTuple):
    """The peak with every page at its best, and that of the whole climb. The overload's median and
    worst stretch of a step's length, and its worst second; its first second is left out, and the
    worst by pages and the worst at the peak's speed may be two. And what work that is always the
    same took at the peak and under overload, at least and at most."""

    best: Rate
    peak: Rate
    median: Rate
    worst: Rate
    worst_second: Rate
    work_us: tuple[float, float, float]


def plan_drill(usual: Phase, times: float, seconds: float, connections: int = CONNECTIONS) -> Drill:
    """Plan a drill around a usual second: `usual.seconds` is not used."""
    overload = Fault(f"overload, {times:g}x", BEFORE_S, seconds, False, CALM_S)
    before, under = _scaled(usual, BEFORE_S, 1), _scaled(usual, seconds, times)
    phases = [before, under, _scaled(usual, CALM_S, 1)]
    phases += [_scaled(usual, STEP_S, step) for step in CLIMB]
    # under overload a punctual load would leave the server's threads nothing
    front = Front(connections, 0.0, usual.rate)
    return Drill(phases, overload, overload.end_s + CALM_S, front)


def goodput(seconds: Sequence[Second], overload: Fault) -> Goodput:
    """What was answered in time in a drill; zeros of what was not reached."""
    under = [s for s in seconds if overload.at_s + 1 <= s.at_s < overload.end_s] or [_NO_SECOND]
    climb = [s for s in seconds if s.at_s >= overload.end_s + CALM_S]
    length = int(STEP_S)
    whole = range(0, len(climb) - length + 1, length)
    steps = [climb[begin : begin + length] for begin in whole] or [[_NO_SECOND]]
    peak = max(steps, key=_pages)
    peak_us = _work_us(peak)

    def rate(*step: Second) -> Rate:
        pages = _pages(step)
        return Rate(pages, pages * (_of(_work_us(step), peak_us) or 1.0))

    stretches = [under[end - length : end] for end in range(length, len(under) + 1)] or [under]
    rates = [rate(*stretch) for stretch in stretches]
    works_us = [second.work_us for second in under if second.work_us] or [0.0]
    return Goodput(
        max((rate(*step) for step in steps if all(map(_is_whole, step))), default=NONE),
        rate(*peak),
        Rate(*np.median(rates, axis=0).tolist()),
        Rate(*np.min(rates, axis=0).tolist()),
        Rate(*np.min([rate(second) for second in under], axis=0).tolist()),
        (peak_us, min(works_us), max(works_us)),
    )


def draw_overload(result: Result) -> RenderableType:
    """The drill's own table."""
    assert result.fault is not None
    good = goodput(result.seconds, result.fault)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("goodput")
    for column in ("pages/s in time", "of the best pages' peak", "of the peak", "at its speed"):
        table.add_column(column, justify="right")
    for name, rate in (
        ("peak, pages at their best", good.best),
        ("peak of the climb", good.peak),
        ("overload, at the median", good.median),
        (f"overload, worst {STEP_S:g} s", good.worst),
        ("overload, worst second", good.worst_second),
    ):
        shares = (
            _of(rate.pages, good.best.pages),
            _of(rate.pages, good.peak.pages),
            _of(rate.even, good.peak.even),
        )
        table.add_row(name, f"{rate.pages:,.0f}", *(f"{share:.0%}" for share in shares))
    at_peak, least, most = good.work_us
    words = (
        f"At its speed: work that is always the same took {at_peak:.0f} us of the server's "
        f"processor at the peak, {least:.0f} to {most:.0f} us under overload."
    )
    return Group(table, Text(words, style="dim"))


def _is_whole(second: Second) -> bool:
    """Whether nearly all who asked were answered in time, and not by a cheaper step; one from an
    older list is as dear."""
    asked = second.answered + second.failed
    cheaper = second.degraded.get("popular", 0) + second.degraded.get("static", 0)
    return second.in_time >= WHOLE * asked and cheaper <= (1 - WHOLE) * asked


def _pages(step: Sequence[Second]) -> float:
    return fmean(second.in_time for second in step)


def _work_us(step: Sequence[Second]) -> float:
    """What that work took in a step; 0 where it was not measured in all of it."""
    each_us = [second.work_us for second in step]
    return fmean(each_us) if all(each_us) else 0.0


def _of(value: float, whole: float) -> float:
    return value / whole if whole else 0.0


def _scaled(usual: Phase, seconds: float, times: float) -> Phase:
    return Phase(seconds, usual.rate * times, usual.events * times, usual.stock_changes * times)
