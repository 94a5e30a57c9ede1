"""The overload drill: ten times the usual load for a while, and what is still answered in time.

    calm at the usual rate · overload · calm again · a climb, to find what the server can do

*Goodput* is pages answered within the deadline, a second. Its *peak* is the best second of the
climb, in which everything grows alike: pages, events, stock. A server that is good at overload
goes on at its peak, and turns the rest away; a bad one answers everybody too late.

Pages come as through a load balancer: over a fixed number of connections, and whoever finds none
free is turned away there.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
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
STEP_S: Final = 2.0
CLIMB: Final = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Times the usual rate."""
CONNECTIONS: Final = 128


class Drill(NamedTuple):
    """The phases of a drill, when its overload is, and where its second calm ends."""

    phases: list[Phase]
    overload: Fault
    calm_end_s: float
    front: Front


class Goodput(NamedTuple):
    """Pages in time a second: the peak of the climb, and the overload's worst and median second,
    of which the first is left out."""

    peak: int
    worst: int
    median: float


def plan_drill(usual: Phase, times: float, seconds: float, connections: int = CONNECTIONS) -> Drill:
    """Plan a drill around a usual second: `usual.seconds` is not used."""
    overload = Fault(f"overload, {times:g}x", BEFORE_S, seconds, False, CALM_S)
    before, under = _scaled(usual, BEFORE_S, 1), _scaled(usual, seconds, times)
    phases = [before, under, _scaled(usual, CALM_S, 1)]
    phases += [_scaled(usual, STEP_S, step) for step in CLIMB]
    front = Front(connections, 0.0, punctual=False)  # it would leave the server's threads nothing
    return Drill(phases, overload, overload.end_s + CALM_S, front)


def goodput(result: Result) -> Goodput:
    """What was answered in time in a drill; zeros where it was ended before that."""
    overload = result.fault
    assert overload is not None
    under = _in_time(result.seconds, overload.at_s + 1, overload.end_s)
    climb = _in_time(result.seconds, overload.end_s + CALM_S, float("inf"))
    peak = max([*climb, *_in_time(result.seconds, 0, overload.at_s)], default=0)
    return Goodput(peak, min(under, default=0), float(np.median(under)) if under else 0.0)


def draw_overload(result: Result) -> RenderableType:
    """The drill's own table."""
    good = goodput(result)
    table = Table.grid(padding=(0, 3))
    table.add_row("peak of the climb", f"{good.peak:,} pages in time a second")
    table.add_row("under overload", f"{good.median:,.0f} at the median, {_of(good.median, good)}")
    table.add_row("its worst second", f"{good.worst:,}, {_of(good.worst, good)}")
    return Group(Text("Goodput", style="bold"), table)


def _of(value: float, good: Goodput) -> str:
    return f"{value / max(good.peak, 1):.0%} of the peak"


def _scaled(usual: Phase, seconds: float, times: float) -> Phase:
    return Phase(seconds, usual.rate * times, usual.events * times, usual.stock_changes * times)


def _in_time(seconds: Sequence[Second], begin_s: float, end_s: float) -> list[int]:
    return [second.in_time for second in seconds if begin_s <= second.at_s < end_s]
