"""The pool: the candidates of one decision, in memory that is used again for the next.

Each source offers items with raw values and then settles: its values are scaled so that the best
of those that may be shown is 1, multiplied by its weight, and added to the candidates' scores. A
candidate's source is the one that gave it most. An item that must not be shown enters too, with
the reason, so that a decision can tell what it kept off the page; `select` passes it over.

What each source says alone is kept too where `parts` has room for it: a page's has none. A page's
has room for the items that are alike instead (see `content.alike`).

A candidate is one record, so that offering touches one line of memory, and kernels take three
plain arrays: a tuple of columns is copied at every call between kernels, which cost ten times
the work itself.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inner_kernel
from onhand.retrieval.sources import SOURCES
from onhand.state.barriers import REASONS

__all__ = [
    "CANDIDATE",
    "CAPACITY",
    "Alike",
    "Pool",
    "ahead",
    "bar",
    "bar_one",
    "clear",
    "count_kept_off",
    "enter",
    "make_pool",
    "mark",
    "offer",
    "select",
    "settle",
]

CAPACITY: Final = 4096
SEEDS: Final = 4096
"""Items whose neighbours a pool remembers."""
NEIGHBOURS: Final = 96
"""How many of each."""
CANDIDATE: Final = np.dtype(
    [
        ("item", np.int64),
        ("score", np.float64),
        ("raw", np.float64),  # what the current source says
        ("offered", np.int64),  # the places of those that it offered, from place 0 on
        ("best", np.float64),  # the most that one source gave
        ("fit", np.float64),  # of an item that is new, how well it fits the visitor, else 0
        ("source", np.int32),  # the code of that source
        ("reason", np.int32),  # why it must not be shown, 0 when it may
    ]
)


class Alike(NamedTuple):
    """The nearest items to some that pages were about, each where its row's remainder puts it."""

    seed: NDArray[np.int64]  # (SEEDS,): the row, 0: none yet
    moves: NDArray[np.int64]  # (SEEDS,): what `ShopColumns.moves` was then
    item: NDArray[np.int64]  # (SEEDS, NEIGHBOURS): the best first
    product: NDArray[np.int64]  # (SEEDS, NEIGHBOURS): of the vectors, 0 behind the last


class Pool(NamedTuple):
    """Scratch memory for decisions, one at a time."""

    candidates: NDArray[np.void]  # (CAPACITY,) of CANDIDATE
    parts: NDArray[np.float32]  # (CAPACITY, SOURCES): each source's values, scaled; or (0, SOURCES)
    place: NDArray[np.int32]  # (items,): 1 + the place of an item in the pool, 0: not in it
    size: NDArray[np.int64]  # (2,): candidates in use, and offered by the current source
    chosen: NDArray[np.int64]  # places of the chosen, best first
    kept_off: NDArray[np.int64]  # (2, reasons): how many each barrier kept off this page, off all
    alike: Alike


def make_pool(items: int, *, parts: bool = False) -> Pool:
    """Return an empty pool for a catalogue of at most `items` rows, with the sources' `parts` or
    with what is alike."""
    seeds = 0 if parts else SEEDS
    return Pool(
        candidates=np.zeros(CAPACITY, CANDIDATE),
        parts=np.zeros((CAPACITY if parts else 0, len(SOURCES)), np.float32),
        place=np.zeros(items, np.int32),
        size=np.zeros(2, np.int64),
        chosen=np.zeros(CAPACITY, np.int64),
        kept_off=np.zeros((2, len(REASONS)), np.int64),
        alike=Alike(
            np.zeros(seeds, np.int64),
            np.zeros(seeds, np.int64),
            np.zeros((seeds, NEIGHBOURS), np.int64),
            np.zeros((seeds, NEIGHBOURS), np.int64),
        ),
    )


@inner_kernel
def clear(candidates: Array, parts: Array, place: Array, size: Array) -> None:
    """Empty the pool."""
    for at in range(size[0]):
        place[candidates[at].item] = 0
    parts[: size[0]] = 0.0
    size[0] = 0


@inner_kernel
def enter(candidates: Array, place: Array, size: Array, item: int, reason: int) -> int:
    """Return the place of `item`, a new one when it has none; -1 when the pool is full."""
    at = place[item] - 1
    if at >= 0:
        return at
    at = size[0]
    if at == CAPACITY:
        return -1
    size[0] = at + 1
    place[item] = at + 1
    new = candidates[at]
    new.item = item
    new.score = 0.0
    new.raw = 0.0
    new.best = 0.0
    new.fit = 0.0
    new.source = 0
    new.reason = reason
    return at


@inner_kernel
def bar(candidates: Array, place: Array, size: Array, members: Array, reason: int) -> None:
    """Keep the items of a list, which 0 may end, off this page for `reason`."""
    for item in members:
        if item == 0:
            return
        bar_one(candidates, place, size, item, reason)


@inner_kernel
def bar_one(candidates: Array, place: Array, size: Array, item: int, reason: int) -> None:
    """Keep an item off this page for `reason`, unless it is barred already or 0."""
    if item != 0:
        at = enter(candidates, place, size, item, reason)
        if at >= 0 and candidates[at].reason == 0:
            candidates[at].reason = reason


@inner_kernel
def offer(
    candidates: Array, place: Array, size: Array, blocked: Array, item: int, raw: float
) -> None:
    """Add `raw`, where it is above 0, to what the current source says of `item`."""
    at = enter(candidates, place, size, item, blocked[item])
    if at >= 0 and raw > 0.0:
        if candidates[at].raw == 0.0:
            candidates[size[1]].offered = at
            size[1] += 1
        candidates[at].raw += raw


@inner_kernel
def mark(candidates: Array, place: Array, item: int, fit: float) -> None:
    """Note how well a new item that was offered fits the visitor."""
    at = place[item] - 1
    if at >= 0:
        candidates[at].fit = fit


@inner_kernel
def settle(candidates: Array, parts: Array, size: Array, source: int, weight: float) -> None:
    """Close the current source: turn its raw values into scores."""
    offered = size[1]
    size[1] = 0
    top = best = 0.0
    for each in range(offered):
        candidate = candidates[candidates[each].offered]
        top = max(top, candidate.raw)
        if candidate.reason == 0:
            best = max(best, candidate.raw)
    if best > 0.0:
        top = best
    for each in range(offered):
        at = candidates[each].offered
        candidate = candidates[at]
        value = candidate.raw / top
        candidate.raw = 0.0
        part = weight * value
        if parts.shape[0]:
            parts[at, source] = value
        candidate.score += part
        if part > candidate.best:
            candidate.best = part
            candidate.source = source


@inner_kernel
def ahead(candidates: Array, popularity: Array, one: int, other: int) -> bool:
    """Return whether place `one` ranks before `other`: by score, then popularity, then row."""
    first, second = candidates[one], candidates[other]
    if first.score != second.score:
        return first.score > second.score
    if popularity[first.item] != popularity[second.item]:
        return popularity[first.item] > popularity[second.item]
    return first.item < second.item


@inner_kernel
def select(
    candidates: Array, size: int, chosen: Array, kept_off: Array, popularity: Array, n: int
) -> int:
    """Choose the best `n` that may be shown, write their places to `chosen`, return how many.

    `kept_off` counts by reason what a barrier passed over that would have been among them.
    """
    found = 0
    for at in range(size):
        if candidates[at].reason != 0:
            continue
        if found == n and not ahead(candidates, popularity, at, chosen[n - 1]):
            continue
        slot = min(found, n - 1)
        while slot > 0 and ahead(candidates, popularity, at, chosen[slot - 1]):
            chosen[slot] = chosen[slot - 1]
            slot -= 1
        chosen[slot] = at
        found = min(found + 1, n)
    floor = candidates[chosen[n - 1]].score if found == n else 0.0
    count_kept_off(candidates, size, kept_off, floor)
    return found


@inner_kernel
def count_kept_off(candidates: Array, size: int, kept_off: Array, floor: float) -> None:
    """Count by reason what was passed over of a score above `floor`."""
    kept_off[0] = 0
    for at in range(size):
        if candidates[at].reason != 0 and candidates[at].score > floor:
            kept_off[0, candidates[at].reason] += 1
