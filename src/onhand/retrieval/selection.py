"""Choosing under conditions: a filter, caps by brand and category, variety, places for the new.

Places are filled one after the other, each with the best candidate that the conditions leave
(with variety: maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998, by the cosine of
content vectors).
"""

from typing import NamedTuple

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.caps import fits_caps, lengthen
from onhand.retrieval.filters import NO_FILTER, Filter, passes
from onhand.retrieval.pool import ahead, count_kept_off, enter
from onhand.state.barriers import FILTERED
from onhand.state.content import LENGTH, dot

__all__ = ["FREE", "Conditions", "bar_filtered", "explore", "fill", "pick"]


class Conditions(NamedTuple):
    """What a request asks of its page: items of one brand or category at most (0: any number),
    and from 0 to 1 how much variety counts beside the score."""

    filter: Filter
    per_brand: int
    per_category: int
    variety: float


FREE = Conditions(NO_FILTER, 0, 0, 0.0)


@inner_kernel
def bar_filtered(
    candidates: Array, size: int, program: Array, rows: Array, category: Array, brand: Array,
    price_cents: Array, terms: Array,
) -> None:  # fmt: skip
    """Bar the candidates that a filter does not let through."""
    for at in range(size):
        candidate = candidates[at]
        if candidate.reason == 0 and not passes(
            program, rows, candidate.item, category, brand, price_cents, terms
        ):
            candidate.reason = FILTERED


@kernel
def pick(
    candidates: Array, size: int, chosen: Array, kept_off: Array, popularity: Array, n: int,
    brand: Array, category: Array, per_brand: int, per_category: int, variety: float,
    vectors: Array,
) -> int:  # fmt: skip
    """Choose as `pool.select` does, with caps and variety; return how many are chosen."""
    taken = np.zeros(size, np.bool_)
    nearest = np.zeros(size, np.float64)
    values = np.zeros(size, np.float64)
    items = np.zeros(n, np.int64)
    top = 0.0
    for at in range(size):
        if candidates[at].reason == 0:
            top = max(top, candidates[at].score)
    found = 0
    while found < n:
        best = -1
        for at in range(size):
            if taken[at] or candidates[at].reason != 0:
                continue
            item = candidates[at].item
            if not fits_caps(item, items, found, -1, brand, category, per_brand, per_category):
                taken[at] = True
                continue
            values[at] = (1.0 - variety) * candidates[at].score - variety * top * nearest[at]
            if (
                best < 0
                or values[at] > values[best]
                or (values[at] == values[best] and ahead(candidates, popularity, at, best))
            ):
                best = at
        if best < 0:
            break
        taken[best] = True
        chosen[found] = best
        items[found] = candidates[best].item
        found += 1
        if variety > 0.0:
            _near(candidates, size, taken, nearest, vectors, candidates[best].item)
    floor = 0.0
    if found == n:
        floor = candidates[chosen[0]].score
        for slot in range(found):
            floor = min(floor, candidates[chosen[slot]].score)
    count_kept_off(candidates, size, kept_off, floor)
    return found


@inner_kernel
def _near(
    candidates: Array, size: int, taken: Array, nearest: Array, vectors: Array, item: int
) -> None:
    """Note how near the candidates that are left are to the nearest chosen one."""
    for at in range(size):
        if not taken[at]:
            cosine = dot(vectors[candidates[at].item], vectors[item]) / (LENGTH * LENGTH)
            nearest[at] = max(nearest[at], cosine)


@kernel
def explore(
    candidates: Array, size: int, chosen: Array, found: int, places: int, brand: Array,
    category: Array, per_brand: int, per_category: int,
) -> None:  # fmt: skip
    """See to it that `places` of the chosen are new items that fit the visitor, as far as there
    are any: the best fitting ones take the last places of others."""
    have = 0
    for slot in range(found):
        have += candidates[chosen[slot]].fit > 0.0
    if have >= places:
        return
    items = np.zeros(found, np.int64)
    taken = np.zeros(size, np.bool_)
    for slot in range(found):
        items[slot] = candidates[chosen[slot]].item
        taken[chosen[slot]] = True
    for slot in range(found - 1, -1, -1):
        if have == places:
            return
        if candidates[chosen[slot]].fit > 0.0:
            continue
        best = -1
        for at in range(size):
            candidate = candidates[at]
            if taken[at] or candidate.reason != 0 or candidate.fit == 0.0:
                continue
            if best >= 0 and candidate.fit <= candidates[best].fit:
                continue
            if fits_caps(
                candidate.item, items, found, slot, brand, category, per_brand, per_category
            ):
                best = at
        if best >= 0:
            taken[best] = True
            chosen[slot] = best
            items[slot] = candidates[best].item
            have += 1


@inner_kernel
def fill(
    candidates: Array, place: Array, size: Array, chosen: Array, blocked: Array,
    popularity: Array, items: int, found: int, n: int, source: int, program: Array, rows: Array,
    category: Array, brand: Array, price_cents: Array, terms: Array, per_brand: int,
    per_category: int,
) -> int:  # fmt: skip
    """Complete a page of `found` to `n` with the most popular items not in the pool, of the first
    `items` rows, as long as there are any that may be shown and the conditions leave; return how
    many are chosen then. With caps each place takes a pass over the items."""
    if per_brand == 0 and per_category == 0:
        return fill_freely(
            candidates, place, size, chosen, blocked, popularity, items, found, n, source,
            program, rows, category, brand, price_cents, terms,
        )  # fmt: skip
    while found < n:
        longer = lengthen(
            candidates, place, size, chosen, blocked, popularity, items, found, source, program,
            rows, category, brand, price_cents, terms, per_brand, per_category,
        )  # fmt: skip
        if longer == found:
            break
        found = longer
    return found


@inner_kernel
def fill_freely(
    candidates: Array, place: Array, size: Array, chosen: Array, blocked: Array,
    popularity: Array, items: int, found: int, n: int, source: int, program: Array, rows: Array,
    category: Array, brand: Array, price_cents: Array, terms: Array,
) -> int:  # fmt: skip
    """Complete a page without caps, in one pass."""
    start = found
    for item in range(1, items):
        if blocked[item] != 0 or place[item] != 0:
            continue
        if found == n and popularity[item] <= popularity[chosen[n - 1]]:
            continue
        if not passes(program, rows, item, category, brand, price_cents, terms):
            continue
        slot = min(found, n - 1)
        while slot > start and popularity[item] > popularity[chosen[slot - 1]]:
            chosen[slot] = chosen[slot - 1]
            slot -= 1
        chosen[slot] = item
        found = min(found + 1, n)
    for slot in range(start, found):
        at = enter(candidates, place, size, chosen[slot], 0)
        candidates[at].source = source
        chosen[slot] = at
    return found
