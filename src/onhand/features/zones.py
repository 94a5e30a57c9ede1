"""Time zones as integers: when each zone's distance from UTC changes, for calendar days and hours.

The tables are part of the feature set's version: another release of the zone data that moves a
transition is another definition.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inner_kernel

__all__ = ["Transition", "offset_ms", "table", "transitions"]

Transition = tuple[int, int]
"""From this moment on (epoch ms) the zone is this many ms ahead of UTC."""

_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DAYS: Final = 365 * 75
_FAR_MS: Final = 2**62


@cache
def transitions(name: str) -> tuple[Transition, ...]:
    """Return the transitions of a zone from 2000 to 2074. Raises `ValueError` for no zone."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError):
        raise ValueError(f"{name!r} is no time zone; name one like Europe/London") from None
    found = [(0, _ahead_ms(zone, _FIRST))]
    for day in range(0, _DAYS, 7):
        before, after = _FIRST + timedelta(days=day), _FIRST + timedelta(days=day + 7)
        if _ahead_ms(zone, after) != found[-1][1]:
            moment = _change(zone, before, after)
            found.append((int(moment.timestamp()) * 1000, _ahead_ms(zone, moment)))
    return tuple(found)


def _ahead_ms(zone: ZoneInfo, moment: datetime) -> int:
    ahead = moment.astimezone(zone).utcoffset() or timedelta()
    return ahead // timedelta(milliseconds=1)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second in (before, after] with the distance that `after` has."""
    wanted = _ahead_ms(zone, after)
    low, high = 0, int((after - before).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if _ahead_ms(zone, before + timedelta(seconds=middle)) == wanted:
            high = middle
        else:
            low = middle
    return before + timedelta(seconds=high)


def table(names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return (zones, 2, transitions) int64: moments and distances, the unused ones far away."""
    lists = [transitions(name) for name in names]
    width = max((len(each) for each in lists), default=1)
    result = np.full((max(len(names), 1), 2, width), _FAR_MS, np.int64)
    for row, each in enumerate(lists):
        result[row, :, : len(each)] = np.array(each, np.int64).T
    return result


@inner_kernel
def offset_ms(zones: Array, zone: int, time_ms: int) -> int:
    """Return how far a zone of `table` is ahead of UTC at `time_ms`; zone -1 is UTC."""
    if zone < 0:
        return 0
    low, high = 0, zones.shape[2]
    while high - low > 1:
        middle = (low + high) // 2
        if zones[zone, 0, middle] <= time_ms:
            low = middle
        else:
            high = middle
    return zones[zone, 1, low]
