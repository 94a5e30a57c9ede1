"""What is counted for features, and where it lies.

An accumulator is one aggregate (a ring of buckets, a decayed sum, a last value, ...) of some event
types in one scope. Features that need the same one share it. Each scope has one table, a row an
entity; a row holds all its accumulators side by side, so that an event touches few cache lines:

    | own facts | 64-bit cells of each accumulator ... | 32-bit rings ... |

The same memory is seen as int64 and as int32. Accumulators are placed in the order of their keys,
so that the order in which features were registered changes nothing. The compiled fold and gather
read this placing as a table of integers; registering a feature compiles nothing.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.state.fold import CUSTOM, OTHER
from onhand.state.operations import KINDS

__all__ = ["Accumulator", "Layout", "Need", "lay_out"]

COUNT: Final = 0  # ring of 32 bits: how many
SUM: Final = 1  # ring of 32 bits: how much, never negative
WIDE: Final = 2  # ring of 64 bits: how much
DECAYED: Final = 3  # sum, epoch, time of the latest
LAST: Final = 4  # time, value
DISTINCT: Final = 5  # times of the latest members, then the members
LEANING: Final = 6  # epoch, time of the latest, members, weights
TOTAL: Final = 7  # time of the latest, how many or how much

ITEM: Final = 0
USER: Final = 1
SESSION: Final = 2
USER_CATEGORY: Final = 3
ITEM_COUNTRY: Final = 4
GLOBAL: Final = 5
SCOPES: Final = ("item", "user", "session", "user x category", "item x country", "global")

ONE: Final = 0
QUANTITY: Final = 1
VALUE: Final = 2
DWELL: Final = 3
POSITION: Final = 4
PRICE: Final = 5
ITEM_ROW: Final = 6
CATEGORY: Final = 7
BRAND: Final = 8
FIELDS: Final = (
    "", "quantity", "value", "dwell_ms", "position", "price", "item", "category", "brand",
)  # fmt: skip

OWN_CELLS: Final[tuple[int, ...]] = (4, 1, 5, 0, 0, 0)
"""64-bit cells that each scope begins with. Item: category, brand, price in cents, listed. User:
the event count when the row was cleared. Session: user, country, device, first time, events."""

SESSION_START: Final = OTHER + 1
"""The event slot of a visitor's session beginning; see `fold`. Custom types follow."""
EVENT_SLOTS: Final = {**KINDS, "session_start": SESSION_START}

LEANING_SLOTS: Final = 8


class Accumulator(NamedTuple):
    """What is counted: the same tuple is the same count. `span_ms` is a bucket's or a half-life's
    length; `zone` names the calendar that days are of, empty for UTC."""

    scope: int
    shape: int
    events: tuple[str, ...]
    field: int
    span_ms: int = 0
    zone: str = ""


class Need(NamedTuple):
    """An accumulator and how much of it: buckets, or members that are told apart."""

    accumulator: Accumulator
    length: int = 1


class Layout(NamedTuple):
    """The placing of all accumulators, as tables of integers.

    `spec` is (accumulators, 8) int64: shape, scope, field, span in ms, zone, length, place of the
    64-bit cells, place of the 32-bit ring. `starts`, (scopes, slots + 1), and `members`, (scopes,
    accumulators), list for each event slot the accumulators it changes. `widths` are the
    32-bit cells of a row in each scope.
    """

    places: dict[Accumulator, int]
    spec: NDArray[np.int64]
    starts: NDArray[np.int64]
    members: NDArray[np.int64]
    widths: tuple[int, ...]
    zones: tuple[str, ...]
    kinds: dict[str, int]


def lay_out(needs: Iterable[Need], zones: Iterable[str] = ()) -> Layout:
    """Place what is needed; `zones` are needed beside those of the accumulators."""
    lengths: dict[Accumulator, int] = {}
    for accumulator, length in needs:
        lengths[accumulator] = max(length, lengths.get(accumulator, 1))
    keys = sorted(lengths)
    named = sorted({key.zone for key in keys if key.zone} | {zone for zone in zones if zone})
    customs = sorted({event for key in keys for event in key.events} - EVENT_SLOTS.keys())
    slots = EVENT_SLOTS | {name: SESSION_START + 1 + at for at, name in enumerate(customs)}
    spec, widths = _place(keys, lengths, named)
    starts, members = _list_members(keys, slots)
    return Layout(
        places={key: at for at, key in enumerate(keys)},
        spec=spec,
        starts=starts,
        members=members,
        widths=widths,
        zones=tuple(named),
        kinds={name: CUSTOM + at for at, name in enumerate(customs)},
    )


def _list_members(
    keys: list[Accumulator], slots: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = max(slots.values()) + 1
    starts = np.zeros((len(SCOPES), count + 1), np.int64)
    members = np.zeros((len(SCOPES), sum(len(key.events) for key in keys) + 1), np.int64)
    for scope in range(len(SCOPES)):
        at = 0
        for slot in range(count):
            for place, key in enumerate(keys):
                if key.scope == scope and slot in [slots[event] for event in key.events]:
                    members[scope, at] = place
                    at += 1
            starts[scope, slot + 1] = at
    return starts, members


def _place(
    keys: list[Accumulator], lengths: dict[Accumulator, int], zones: list[str]
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Return the spec and the width of a row in each scope: 64-bit cells first, rings after."""
    spec = np.zeros((len(keys), 8), np.int64)
    wide: list[int] = [*OWN_CELLS]
    for at, key in enumerate(keys):
        zone = zones.index(key.zone) if key.zone else -1
        length = lengths[key]
        spec[at, :7] = key.shape, key.scope, key.field, key.span_ms, zone, length, wide[key.scope]
        wide[key.scope] += _wide_cells(key.shape, length)
    widths = [2 * cells for cells in wide]
    for at, key in enumerate(keys):
        if key.shape in (COUNT, SUM):
            spec[at, 7] = widths[key.scope]
            widths[key.scope] += lengths[key]
    return spec, tuple(max(-(-width // 16), 1) * 16 for width in widths)  # whole cache lines


def _wide_cells(shape: int, length: int) -> int:
    return {
        COUNT: 1,
        SUM: 1,
        WIDE: 1 + length,
        DECAYED: 3,
        LAST: 2,
        DISTINCT: 2 * length,
        LEANING: 2 + 2 * LEANING_SLOTS,
        TOTAL: 2,
    }[shape]
