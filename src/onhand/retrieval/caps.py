"""Caps: so many items of one brand and of one category at most, and yet a full page.

With both caps an early choice may leave the later ones without room. Then chosen items give way
one after the other: a page is a flow through brands and categories, with items as edges, and is
made longer along the shortest augmenting path (Edmonds and Karp, JACM 1972). An item without brand
or category counts towards no cap.
"""

import numpy as np

from onhand.kernel import Array, inner_kernel, kernel
from onhand.retrieval.filters import passes
from onhand.retrieval.pool import enter

__all__ = ["fits_caps", "lengthen"]


@inner_kernel
def fits_caps(
    item: int, items: Array, found: int, skip: int, brand: Array, category: Array,
    per_brand: int, per_category: int,
) -> bool:  # fmt: skip
    """Return whether caps have room for an item beside `items[:found]`, without that at `skip`."""
    if per_brand == 0 and per_category == 0:
        return True
    same_brand = same_category = 0
    for at in range(found):
        if at != skip:
            same_brand += brand[item] != 0 and brand[items[at]] == brand[item]
            same_category += category[item] != 0 and category[items[at]] == category[item]
    return (per_brand == 0 or same_brand < per_brand) and (
        per_category == 0 or same_category < per_category
    )


@kernel
def lengthen(
    candidates: Array, place: Array, size: Array, chosen: Array, blocked: Array,
    popularity: Array, items: int, found: int, source: int, program: Array, rows: Array,
    category: Array, brand: Array, price_cents: Array, terms: Array, per_brand: int,
    per_category: int,
) -> int:  # fmt: skip
    """Make a page of `found` one longer, if that can be; return how long it is then.

    Among items that serve as well, those of the pool come first, by score, then the most popular.
    """
    page = np.zeros(found, np.int64)
    for slot in range(found):
        page[slot] = candidates[chosen[slot]].item
    brands = full(page, brand, per_brand)
    categories = full(page, category, per_category)
    best = np.zeros((brands.shape[0] + 1, categories.shape[0] + 1), np.int64)
    for item in range(1, items):
        if blocked[item] != 0 or item in page:
            continue
        at = place[item] - 1
        if at >= 0:
            if candidates[at].reason != 0:
                continue
        elif not passes(program, rows, item, category, brand, price_cents, terms):
            continue
        one, other = number(brands, brand[item]), number(categories, category[item])
        before = best[one, other]
        if before == 0 or leads(candidates, place, popularity, item, before):
            best[one, other] = item
    out, into = find_path(best, page, brands, categories, brand, category)
    if into.shape[0] == 0:
        return found
    kept = 0
    for slot in range(found):
        if page[slot] not in out:
            chosen[kept] = chosen[slot]
            kept += 1
    for item in into:
        at = place[item] - 1
        if at < 0:
            at = enter(candidates, place, size, item, 0)
            candidates[at].source = source
        chosen[kept] = at
        kept += 1
    return kept


@kernel
def full(page: Array, kind: Array, cap: int) -> Array:
    """Return the brands or categories that have no room for another item."""
    found = np.zeros(page.shape[0], np.int64)
    count = 0
    for item in page:
        if cap == 0 or kind[item] == 0 or kind[item] in found[:count]:
            continue
        same = 0
        for other in page:
            same += kind[other] == kind[item]
        if same >= cap:
            found[count] = kind[item]
            count += 1
    return found[:count]


@inner_kernel
def number(among: Array, value: int) -> int:
    """Return 1 + the place of a value, 0 where it is none of them."""
    for at in range(among.shape[0]):
        if among[at] == value:
            return at + 1
    return 0


@inner_kernel
def leads(candidates: Array, place: Array, popularity: Array, item: int, other: int) -> bool:
    """Return whether an item is ahead of another: by score, then popularity."""
    one = candidates[place[item] - 1].score if place[item] != 0 else 0.0
    two = candidates[place[other] - 1].score if place[other] != 0 else 0.0
    return one > two or (one == two and popularity[item] > popularity[other])


@kernel
def find_path(
    best: Array, page: Array, brands: Array, categories: Array, brand: Array, category: Array
) -> tuple[Array, Array]:
    """Return the items that leave and those that come, one more, or none where no path is.

    `best` is an item for each pair of a full brand and a full category; 0 stands for all that have
    room. A path goes from a brand with room, by items that come, to categories, and from a full
    category, by items that leave, to full brands, until it gets to a category with room.
    """
    came_by = np.full(categories.shape[0] + 1, -1, np.int64)  # the brand before a category
    left_by = np.full(brands.shape[0] + 1, -1, np.int64)  # the page's slot before a brand
    queue = np.zeros(brands.shape[0] + 1, np.int64)
    head, tail = 0, 1
    while head < tail and came_by[0] < 0:
        one = queue[head]
        head += 1
        for other in range(categories.shape[0] + 1):
            if best[one, other] == 0 or came_by[other] >= 0:
                continue
            came_by[other] = one
            for slot in range(page.shape[0] - 1, -1, -1):
                if other == 0 or category[page[slot]] != categories[other - 1]:
                    continue
                next_brand = number(brands, brand[page[slot]])
                if next_brand != 0 and left_by[next_brand] < 0:
                    left_by[next_brand] = slot
                    queue[tail] = next_brand
                    tail += 1
    length = 0
    out, into = np.zeros(tail, np.int64), np.zeros(tail, np.int64)
    other = 0
    while came_by[0] >= 0:
        one = came_by[other]
        into[length] = best[one, other]
        if one == 0:
            return out[:length], into[: length + 1]
        out[length] = page[left_by[one]]
        other = number(categories, category[out[length]])
        length += 1
    return out[:0], into[:0]
