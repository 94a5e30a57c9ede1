"""The fold: one step of the state for each operation, in log order, compiled.

A record becomes one or a few operations of eleven integers (see `operations`). Counts for
features are another fold of the same operations (`port`). What an event does here:

- **popularity** of its item, over all, in the visitor's country and in the visitor's cohort, by the
  weight of its type;
- **recent items** of the session and the user, the cart, what was bought;
- **transitions**: from each of the three items before it in the session, within an hour, to it,
  weighing 1, 1/2 and 1/3; purchases, which arrive as whole baskets, make none;
- **co-purchases**: with all that the session bought within a day of it, both ways;
- **the rush for it**: its latest sales, and the time they took without that when it was sold out;
- **the latest sessions** of the item: see `retrieval.neighbours`;
- **the session's interest**: its vector moves towards the item's, or a query's: see `content`;
- **what visitors begin with**, by hour, referrer and device, and **what surges**.

A session that becomes a user's hands over what it has seen so far.

All counts are decayed integers (`decay`), lists are ordered by event time, so that events that
arrive out of order end in the same place.
"""

from typing import Any, Final

import numpy as np
from numba import literal_unroll

from onhand.kernel import Array, inlined_kernel, inner_kernel, kernel, prefetch
from onhand.state import barriers, clusters, cohorts, decay, sketch
from onhand.state.columns import HISTORY, RECENT
from onhand.state.content import DIMENSIONS, move, unpack
from onhand.state.contexts import DEVICES_AT, REFERRERS_AT, hour_row

__all__ = ["fold"]

VIEW: Final = 0
CLICK: Final = 1
HOVER: Final = 2
SEARCH: Final = 3
IMPRESSION: Final = 4
CART_ADD: Final = 5
CART_REMOVE: Final = 6
PURCHASE: Final = 7
OTHER: Final = 8
NEW_ITEM: Final = 20
LIST: Final = 21
UNLIST: Final = 22
STOCK: Final = 23
PRICE: Final = 24
HELD: Final = 25
SLOTS: Final = 26
CONGESTION: Final = 27
CLEAR_SESSION: Final = 28
CLEAR_USER: Final = 29
CATEGORY: Final = 30
BRAND: Final = 31
CONTENT: Final = 32
"""A packed vector of an item, from the fourth number on."""
QUERY: Final = 33
"""A packed vector that a session searched for."""
TERMS: Final = 34
"""Eight terms of an item, from the place that stands third on."""
REFERRER: Final = 35
CUSTOM: Final = 64
"""From here on: event types that an app declares. To this fold they are like `OTHER`."""

POPULARITY: Final[Array] = np.array([1, 1, 0, 0, 0, 3, 0, 5, 0], np.int64)
"""What an event of each type adds to popularity; types that add nothing are no interaction."""

INTEREST: Final[Array] = np.array([2, 2, 1, 0, 0, 4, -2, 3, 0], np.int64)
"""How far an event of each type moves a session's interest; a long look moves it one further."""
QUERY_INTEREST: Final = 3
LONG_LOOK_MS: Final = 10_000
BEGINNING: Final = 3
"""Interactions of a session that count as what visitors begin with."""
SURGE_HALF_LIFE_MS: Final = 3_600_000
"""Of `ItemColumns.surge`."""
SURGE_SPAN_MS: Final = SURGE_HALF_LIFE_MS * decay.EPOCH_HALVES

RUSH_PIECES: Final = 32
"""Pieces of the latest sales that an item remembers."""
RUSH_GAP_MS: Final = 30_000
"""A silence that ends a rush: one piece in so long is gone within a click one time in seven."""

LINKS: Final = 3
LINK_WINDOW_MS: Final = 3_600_000
BASKET_WINDOW_MS: Final = 86_400_000

AHEAD: Final = 8
"""So many operations before its turn, memory is asked for what one changes."""


@inner_kernel
def insert(members: Array, times: Array, member: int, time_ms: int) -> int:
    """Put `member` into a list ordered by time, latest first, and return its place, -1 when the
    list is full of later ones. Of equal times the one that came last stands first."""
    width = members.shape[0]
    place = 0
    while place < width and members[place] != 0 and times[place] > time_ms:
        place += 1
    if place == width:
        return -1
    for slot in range(width - 1, place, -1):
        members[slot] = members[slot - 1]
    for slot in range(width - 1, place, -1):
        times[slot] = times[slot - 1]
    members[place] = member
    times[place] = time_ms
    return place


@inner_kernel
def remove(members: Array, times: Array, member: int) -> None:
    """Take `member` out of a list, wherever and however often it stands."""
    kept = 0
    for slot in range(members.shape[0]):
        if members[slot] != member:
            members[kept] = members[slot]
            times[kept] = times[slot]
            kept += 1
    members[kept:] = 0
    times[kept:] = 0


@kernel
def move_landmark(items: Any, places: Any, contexts: Any, shop: Any, time_ms: int) -> None:
    """Begin the epoch of `time_ms`: divide all decayed counts by what new weights gain."""
    landmark = decay.landmark_of(time_ms)
    if shop.landmark_ms[0] != 0:
        halves = (landmark - shop.landmark_ms[0]) // decay.EPOCH_MS * decay.EPOCH_HALVES
        shift = min(halves, 63)
        used = shop.items[0]
        items.popularity[:used] >>= shift
        items.next_weight[:used] >>= shift
        items.with_weight[:used] >>= shift
        places.popular_weight[:] >>= shift
        contexts.begun_weight[:] >>= shift
        shift = min(halves * decay.HALF_LIFE_MS // cohorts.HALF_LIFE_MS, 63)
        items.cohort_weight[:used] >>= shift
        shop.cohort_weight[0] >>= shift
    shop.landmark_ms[0] = landmark


@inlined_kernel
def link(
    next_item: Array,
    next_weight: Array,
    recent: Array,
    times: Array,
    place: int,
    landmark_ms: int,
) -> None:
    """Count the transitions that a session's recent item at `place` makes with those around."""
    width = recent.shape[0]
    for lag in range(1, LINKS + 1):
        for older, newer in ((place + lag, place), (place, place - lag)):
            if newer < 0 or older >= width or recent[older] == 0 or recent[older] == recent[newer]:
                continue
            if times[newer] - times[older] > LINK_WINDOW_MS:
                continue
            weight = decay.weight_at(times[newer], landmark_ms) // lag
            item = recent[older]
            sketch.add(next_item[item], next_weight[item], recent[newer], weight)


@inlined_kernel
def pair(
    with_item: Array,
    with_weight: Array,
    bought: Array,
    times: Array,
    item: int,
    time_ms: int,
    weight: int,
) -> None:
    """Count the co-purchases of `item` with what a session bought within a day of it."""
    for slot in range(bought.shape[0]):
        other = bought[slot]
        if other == 0:
            return
        if other != item and abs(time_ms - times[slot]) <= BASKET_WINDOW_MS:
            sketch.add(with_item[item], with_weight[item], other, weight)
            sketch.add(with_item[other], with_weight[other], item, weight)


@inlined_kernel
def count_in_cohort(
    items: Any, shop: Any, item: int, cohort: int, amount: int, time_ms: int
) -> None:
    """Count an item among those popular in a cohort."""
    unit = decay.weigh(time_ms, shop.landmark_ms[0], cohorts.HALF_LIFE_MS)
    items.cohort_weight[item, cohort] += amount * unit
    sketch.top(
        shop.cohort_item[0, cohort], shop.cohort_weight[0, cohort], item,
        items.cohort_weight[item, cohort],
    )  # fmt: skip


@kernel
def move_surge(items: Any, shop: Any, time_ms: int) -> None:
    """Begin the epoch of `time_ms` for what surges, as `move_landmark` does."""
    landmark_ms = shop.surge_landmark_ms
    landmark = time_ms // SURGE_SPAN_MS * SURGE_SPAN_MS
    shift = min((landmark - landmark_ms[0]) // SURGE_HALF_LIFE_MS, 63)
    items.surge[: shop.items[0]] >>= shift
    shop.surge_weight[0] >>= shift
    landmark_ms[0] = landmark


@inlined_kernel
def surge(items: Any, shop: Any, item: int, time_ms: int) -> None:
    """Count an item among those of the last hours."""
    landmark_ms = shop.surge_landmark_ms
    if time_ms >= landmark_ms[0] + SURGE_SPAN_MS:
        move_surge(items, shop, time_ms)
    items.surge[item] += decay.weigh(time_ms, landmark_ms[0], SURGE_HALF_LIFE_MS)
    sketch.top(shop.surge_item[0], shop.surge_weight[0], item, items.surge[item])


@inlined_kernel
def begin(
    members: Array, weights: Array, item: int, weight: int, time_ms: int, referrer: int, device: int
) -> None:
    """Count an item among those that visitors begin with at this hour, from there, with that."""
    hour = hour_row(time_ms)
    sketch.add(members[hour], weights[hour], item, weight)
    if referrer:
        row = REFERRERS_AT + referrer
        sketch.add(members[row], weights[row], item, weight)
    if device:
        row = DEVICES_AT + device
        sketch.add(members[row], weights[row], item, weight)


@inner_kernel
def sell(
    pieces: Array, span_ms: Array, sold_ms: Array, item: int, time_ms: int, quantity: int
) -> None:
    """Count a sale among an item's latest, and the time since the one before, unless the item was
    sold out meanwhile. After a longer silence it is a first one. What comes late says that there
    was one more within the time that is counted already."""
    before_ms = sold_ms[item]
    if before_ms == 0 or (before_ms > 0 and time_ms - before_ms > RUSH_GAP_MS):
        pieces[item] = span_ms[item] = 0
    elif before_ms > 0:
        sold = pieces[item] + quantity
        span_ms[item] += max(time_ms - before_ms, 0)
        if sold > RUSH_PIECES:
            span_ms[item] = span_ms[item] * RUSH_PIECES // sold
        pieces[item] = min(sold, RUSH_PIECES)
    sold_ms[item] = max(time_ms, abs(before_ms))


@inlined_kernel
def interact(
    items: Any, sessions: Any, users: Any, places: Any, contexts: Any, shop: Any, operation: Array
) -> None:
    """Fold an event that shows interest in an item."""
    kind, item, session, user = operation[0], operation[1], operation[2], operation[3]
    time_ms = operation[5]
    if time_ms >= shop.landmark_ms[0] + decay.EPOCH_MS or shop.landmark_ms[0] == 0:
        move_landmark(items, places, contexts, shop, time_ms)
    landmark_ms = shop.landmark_ms[0]
    unit = decay.weight_at(time_ms, landmark_ms)

    weight = POPULARITY[kind] * unit
    items.popularity[item] += weight
    popularity = items.popularity[item]
    sketch.top(places.popular_item[0], places.popular_weight[0], item, popularity)
    country = sessions.country[session]
    if country:
        sketch.add(places.popular_item[country], places.popular_weight[country], item, weight)

    owner = user or sessions.user[session]
    cohort = cohorts.cohort_of(owner != 0, users.interactions[owner])
    count_in_cohort(items, shop, item, cohort, POPULARITY[kind], time_ms)
    surge(items, shop, item, time_ms)
    if sessions.interactions[session] < BEGINNING:
        referrer, device = sessions.referrer[session], sessions.device[session]
        begun, counts = contexts.begun_item, contexts.begun_weight
        begin(begun, counts, item, weight, time_ms, referrer, device)

    sessions.interactions[session] += 1
    recent, times = sessions.recent_item[session], sessions.recent_ms[session]
    if item not in recent:
        ring = items.recent_session[item]
        ring[items.sessions[item] % ring.shape[0]] = session
        items.sessions[item] += 1
    place = insert(recent, times, item, time_ms)
    if place >= 0 and kind != PURCHASE:
        link(items.next_item, items.next_weight, recent, times, place, landmark_ms)
    if user:
        users.interactions[user] += 1
        insert(users.recent_item[user], users.recent_ms[user], item, time_ms)

    cart, cart_times = sessions.cart_item[session], sessions.cart_ms[session]
    if kind == CART_ADD:
        remove(cart, cart_times, item)
        insert(cart, cart_times, item, time_ms)
    elif kind == PURCHASE:
        pieces, span_ms = items.rush_pieces, items.rush_ms
        sell(pieces, span_ms, items.sold_ms, item, time_ms, operation[6])
        bought, bought_ms = sessions.bought_item[session], sessions.bought_ms[session]
        pair(items.with_item, items.with_weight, bought, bought_ms, item, time_ms, unit)
        remove(cart, cart_times, item)
        insert(bought, bought_ms, item, time_ms)
        if user:
            insert(users.bought_item[user], users.bought_ms[user], item, time_ms)


@inner_kernel
def hand_over(sessions: Any, users: Any, session: int, user: int) -> None:
    """Give a user what a session saw before it was theirs; the oldest first, as it came."""
    users.interactions[user] += sessions.interactions[session]
    recent, times = sessions.recent_item[session], sessions.recent_ms[session]
    for at in range(recent.shape[0] - 1, -1, -1):
        if recent[at] != 0:
            insert(users.recent_item[user], users.recent_ms[user], recent[at], times[at])
    bought, bought_ms = sessions.bought_item[session], sessions.bought_ms[session]
    for at in range(bought.shape[0] - 1, -1, -1):
        if bought[at] != 0:
            insert(users.bought_item[user], users.bought_ms[user], bought[at], bought_ms[at])


@inner_kernel
def locate(
    owner: Array, country_of: Array, home_of: Array, session: int, user: int, country: int
) -> None:
    """Remember who a session belongs to and where it is; a session takes its user's country.

    `owner` and `country_of` are columns of sessions, `home_of` the users' countries.
    """
    if user:
        owner[session] = user
    if country:
        country_of[session] = country
        if user:
            home_of[user] = country
    elif user and country_of[session] == 0:
        country_of[session] = home_of[user]


@inner_kernel
def clear(rows: Any, row: int) -> None:
    """Make a row of `SessionColumns` or `UserColumns` that of a new visitor."""
    for column in literal_unroll(rows):
        column[row] = 0


@inlined_kernel
def stand(items: Any, shop: Any, kind: int, item: int, time_ms: int, value: int) -> None:
    """Fold a fact about an item, and refresh its barrier."""
    if kind == NEW_ITEM:
        shop.items[0] = item + 1
        items.stock[item] = -1
        items.price_cents[item] = -1
        items.slots[item] = -1
        items.congestion[item] = -1
    elif kind == LIST:
        items.listed[item] = 1
        if time_ms:
            items.created_ms[item] = time_ms
        remove(shop.arrived_item[0], shop.arrived_ms[0], item)
        insert(shop.arrived_item[0], shop.arrived_ms[0], item, items.created_ms[item])
    elif kind == UNLIST:
        items.listed[item] = 0
        remove(shop.arrived_item[0], shop.arrived_ms[0], item)
    elif kind == STOCK:
        items.stock[item] = value
        if value == 0:
            items.sold_ms[item] = -abs(items.sold_ms[item])
    elif kind == PRICE:
        items.price_cents[item] = value
    elif kind == CATEGORY:
        items.category[item] = value
    elif kind == BRAND:
        items.brand[item] = value
    elif kind == HELD:
        items.held[item] = value
    elif kind == SLOTS:
        items.slots[item] = value
    elif kind == CONGESTION:
        items.congestion[item] = value / 1000 if value >= 0 else -1
    barriers.refresh(items, item)


@kernel
def seek(interest: Array, packed: Array) -> None:
    """Move a session's interest towards what it searched for."""
    vector = np.zeros(interest.shape[0], np.int8)
    unpack(vector, packed)
    move(interest, vector, QUERY_INTEREST)


@inner_kernel
def describe(terms: Array, item: int, operation: Array) -> None:
    """Take some of an item's terms."""
    first = operation[2]
    terms[item, first:] = 0
    for at in range(8):
        terms[item, first + at] = operation[3 + at]


@inlined_kernel
def fetch(items: Any, sessions: Any, users: Any, operation: Array) -> None:
    """Ask memory for what an event changes, cache line by cache line."""
    kind, item, session, user = operation[0], operation[1], operation[2], operation[3]
    if OTHER < kind < CUSTOM:
        return
    prefetch(sessions.touched, session, 0)
    prefetch(sessions.user, session, 0)
    prefetch(sessions.country, session, 0)
    prefetch(sessions.device, session, 0)
    prefetch(sessions.referrer, session, 0)
    prefetch(sessions.interactions, session, 0)
    for cell in range(0, DIMENSIONS, 32):
        prefetch(sessions.interest, session, cell)
    for cell in range(0, RECENT, 16):
        prefetch(sessions.recent_item, session, cell)
    for cell in range(0, RECENT, 8):
        prefetch(sessions.recent_ms, session, cell)
    prefetch(items.popularity, item, 0)
    prefetch(items.surge, item, 0)
    prefetch(items.cohort_weight, item, 0)
    prefetch(items.sessions, item, 0)
    prefetch(items.content, item, 0)
    if user:
        prefetch(users.touched, user, 0)
        prefetch(users.country, user, 0)
        prefetch(users.interactions, user, 0)
        for cell in range(0, HISTORY, 16):
            prefetch(users.recent_item, user, cell)
        for cell in range(0, HISTORY, 8):
            prefetch(users.recent_ms, user, cell)


@inner_kernel
def fold(
    items: Any, sessions: Any, users: Any, places: Any, contexts: Any, near: Any, shop: Any,
    operations: Array,
) -> None:  # fmt: skip
    """Apply `operations`, (n, 11) int64, in order."""
    for row in range(operations.shape[0]):
        if row + AHEAD < operations.shape[0]:
            fetch(items, sessions, users, operations[row + AHEAD])
        operation = operations[row]
        kind, item, session, user = operation[0], operation[1], operation[2], operation[3]
        country, time_ms, value = operation[4], operation[5], operation[6]
        if kind == CLEAR_SESSION:
            clear(sessions, session)
            shop.sessions[0] += 1
        elif kind == CLEAR_USER:
            clear(users, user)
        elif kind == CONTENT:
            unpack(items.content[item], operation[3:])
            clusters.move(near, items, shop, item)
        elif kind == TERMS:
            describe(items.terms, item, operation)
        elif kind == QUERY:
            seek(sessions.interest[session], operation[3:])
        elif kind == REFERRER:
            sessions.referrer[session] = value
        elif OTHER < kind < CUSTOM:
            if kind == UNLIST:
                clusters.drop(near, items, shop, item)
            stand(items, shop, kind, item, time_ms, value)
        else:
            shop.events[0] += 1
            sessions.touched[session] = shop.events[0]
            users.touched[user] = shop.events[0]
            if user and sessions.user[session] == 0:
                hand_over(sessions, users, session, user)
            locate(sessions.user, sessions.country, users.country, session, user, country)
            if operation[10]:
                sessions.device[session] = operation[10]
            if kind == CART_REMOVE:
                remove(sessions.cart_item[session], sessions.cart_ms[session], item)
            elif item and kind < OTHER and POPULARITY[kind] > 0:
                interact(items, sessions, users, places, contexts, shop, operation)
            if item and kind < OTHER and INTEREST[kind] != 0:
                further = INTEREST[kind] + (operation[8] >= LONG_LOOK_MS)
                move(sessions.interest[session], items.content[item], further)
