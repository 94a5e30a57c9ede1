"""The fold of features: every accumulator that an operation concerns takes its step, compiled.

First `meet` goes through a batch in order and finds what each event is to each scope: its row, its
event slot, the values of its fields as of that moment (the item's category, the session's country;
the state's columns are as of the end of the batch). Then each scope's table is gone through once.
Kernels take arrays, not tuples of them: passing a tuple of 20 arrays counts 20 references, which
took longer than the counting.

`session_start` is counted where the first event of a session arrives; for its user, where the
session is first seen with that user.
"""

from typing import Any, Final

import numpy as np

from onhand.features import accumulators as of
from onhand.features import pairs, windows
from onhand.features.zones import offset_ms
from onhand.kernel import Array, inlined_kernel, inner_kernel, kernel, prefetch
from onhand.state import decay, sketch
from onhand.state import fold as operations_of
from onhand.state.operations import MISSING

__all__ = ["fold"]

CATEGORY_CELL: Final = 0
BRAND_CELL: Final = 1
PRICE_CELL: Final = 2  # in cents, plus one: 0 is unknown
LISTED_CELL: Final = 3
BORN_CELL: Final = 0
OWNER_CELL: Final = 0
COUNTRY_CELL: Final = 1
DEVICE_CELL: Final = 2
FIRST_CELL: Final = 3
EVENTS_CELL: Final = 4

PRICE_STEPS: Final = 128
SESSION_CELLS: Final = of.OWN_CELLS[of.SESSION]

SLOT: Final = 0
START: Final = 1
TIME: Final = 2
FIELDS_AT: Final = 3
NO_EVENT: Final = -1
CLEARS: Final = -2
EVENT_WIDTH: Final = FIELDS_AT + len(of.FIELDS)
"""What `meet` says of an operation: the event slot (or that there is none), what it starts (0
nothing, 1 a known session for a new user, 2 a session), the time, and each field's value."""
FROM: Final = 0
UNTIL: Final = 1
BUCKET: Final = 2
CELL: Final = 3
WEIGHT: Final = 3
"""A dial is what a moment means to one accumulator: the bucket and its cell in a ring, or the epoch
and the weight. It is the same from one moment until another, so that most events of a batch need
no division."""
AHEAD: Final = 8
"""So many events before its turn, memory is asked for what an event changes: a table of sessions
does not fit a processor's caches, and waiting for it took 40% of the fold."""
FRESH: Final = 1 << 40
"""Added to the row of a pair that has to be cleared before it counts."""


@inner_kernel
def price_step(price_cents: int) -> int:
    """Return the step of a price: four an octave."""
    bits = 0
    while price_cents + 1 >> (bits + 1):
        bits += 1
    quarter = (price_cents + 1 - (1 << bits)) * 4 >> bits
    return min(4 * bits + quarter, PRICE_STEPS - 1)


@inner_kernel
def count_price(own: Array, prices: Array, item: int, amount: int) -> None:
    """Add or take back a listed item with a price from its category's price steps."""
    if own[item, LISTED_CELL] and own[item, PRICE_CELL] > 0:
        prices[own[item, CATEGORY_CELL], price_step(own[item, PRICE_CELL] - 1)] += amount


@inner_kernel
def state_fact(own: Array, prices: Array, kind: int, item: int, value: int) -> None:
    """Take a fact about an item into its own cells."""
    count_price(own, prices, item, -1)
    if kind == operations_of.CATEGORY:
        own[item, CATEGORY_CELL] = value
    elif kind == operations_of.BRAND:
        own[item, BRAND_CELL] = value
    elif kind == operations_of.PRICE:
        own[item, PRICE_CELL] = value + 1
    elif kind == operations_of.LIST:
        own[item, LISTED_CELL] = 1
    elif kind == operations_of.UNLIST:
        own[item, LISTED_CELL] = 0
    count_price(own, prices, item, 1)


@inlined_kernel
def read_fields(event: Array, at: int, operation: Array, row: int, items: Array) -> None:
    """Write the value of each field of an event, `MISSING` where it has none."""
    item = operation[row, 1]
    begin = FIELDS_AT
    event[at, begin + of.ONE] = 1
    event[at, begin + of.QUANTITY] = operation[row, 6]
    event[at, begin + of.VALUE] = operation[row, 7]
    event[at, begin + of.DWELL] = operation[row, 8] if operation[row, 8] >= 0 else MISSING
    event[at, begin + of.POSITION] = operation[row, 9] if operation[row, 9] >= 0 else MISSING
    category, brand = items[item, CATEGORY_CELL], items[item, BRAND_CELL]
    event[at, begin + of.PRICE] = (
        items[item, PRICE_CELL] - 1 if items[item, PRICE_CELL] else MISSING
    )
    event[at, begin + of.ITEM_ROW] = item if item else MISSING
    event[at, begin + of.CATEGORY] = category if category else MISSING
    event[at, begin + of.BRAND] = brand if brand else MISSING


@inlined_kernel
def start_session(own: Array, operation: Array, row: int) -> int:
    """Bring a session's own cells up to date with an event; return what it starts."""
    session, user, time_ms = operation[row, 2], operation[row, 3], operation[row, 5]
    start = 0
    if user and own[session, OWNER_CELL] != user:
        own[session, OWNER_CELL] = user
        start = 1
    if own[session, EVENTS_CELL] == 0:
        own[session, FIRST_CELL] = time_ms
        start = 2
    own[session, FIRST_CELL] = min(own[session, FIRST_CELL], time_ms)
    own[session, EVENTS_CELL] += 1
    if operation[row, 4]:
        own[session, COUNTRY_CELL] = operation[row, 4]
    if operation[row, 10]:
        own[session, DEVICE_CELL] = operation[row, 10]
    return start


@inner_kernel
def meet(
    operations: Array, items: Array, users: Array, sessions: Array, prices: Array, clock: Array,
    lean_key: Array, lean_row: Array, lean_touched: Array, lean_used: Array,
    place_key: Array, place_row: Array, place_touched: Array, place_used: Array,
    events: Array, rows: Array,
) -> None:  # fmt: skip
    """Say of each operation what it is to each scope: `events`, (n, EVENT_WIDTH), and `rows`,
    (n, 6). `items`, `users` and `sessions` are their tables' 64-bit cells."""
    for row in range(operations.shape[0]):
        kind, item, user = operations[row, 0], operations[row, 1], operations[row, 3]
        events[row, SLOT] = NO_EVENT
        if kind == operations_of.CLEAR_SESSION:
            events[row, SLOT] = CLEARS
            rows[row, of.SESSION] = operations[row, 2]
            sessions[operations[row, 2], :SESSION_CELLS] = 0
        elif kind == operations_of.CLEAR_USER:
            events[row, SLOT] = CLEARS
            rows[row, of.USER] = user
            users[user, BORN_CELL] = clock[0]
        elif operations_of.OTHER < kind < operations_of.CUSTOM:
            state_fact(items, prices, kind, item, operations[row, 6])
        else:
            clock[0] += 1
            custom = kind - operations_of.CUSTOM + of.SESSION_START + 1
            events[row, SLOT] = kind if kind <= operations_of.OTHER else custom
            events[row, START] = start_session(sessions, operations, row)
            events[row, TIME] = operations[row, 5]
            read_fields(events, row, operations, row, items)
            rows[row, of.ITEM] = item
            rows[row, of.USER] = user
            rows[row, of.SESSION] = operations[row, 2]
            category = items[item, CATEGORY_CELL]
            if user and category:
                found, fresh = pairs.enter(
                    lean_key, lean_row, lean_touched, lean_used,
                    user << 32 | category, users[user, BORN_CELL], clock[0],
                )  # fmt: skip
                rows[row, of.USER_CATEGORY] = found + FRESH if fresh else found
            country = sessions[operations[row, 2], COUNTRY_CELL]
            if item and country:
                found, fresh = pairs.enter(
                    place_key, place_row, place_touched, place_used,
                    item << 32 | country, 0, clock[0],
                )  # fmt: skip
                rows[row, of.ITEM_COUNTRY] = found + FRESH if fresh else found


@inner_kernel
def remember(times: Array, members: Array, member: int, time_ms: int) -> None:
    """Keep a member among the latest, by the time it was last seen, latest first."""
    last = times.shape[0] - 1
    place = 0
    while place <= last and times[place] != 0 and members[place] != member:
        place += 1
    if place > last:
        if time_ms <= times[last]:
            return
        place = last
    elif times[place] != 0 and time_ms <= times[place]:
        return
    while place > 0 and times[place - 1] < time_ms:
        times[place] = times[place - 1]
        members[place] = members[place - 1]
        place -= 1
    times[place] = time_ms
    members[place] = member


@inner_kernel
def enter_epoch(wide: Array, row: int, place: int, at: int, cells: int, epoch: int) -> None:
    """Begin `epoch` if it is a later one than `wide[row, place]`: the weights in the `cells` at
    `at` are divided by what new ones gain."""
    before = wide[row, place]
    if epoch > before:
        if before != 0:
            shift = min((epoch - before) * decay.EPOCH_HALVES, 63)
            for cell in range(at, at + cells):
                wide[row, cell] >>= shift
        wide[row, place] = epoch


@inner_kernel
def turn(dial: Array, spec: Array, zones: Array, time_ms: int) -> None:
    """Set the dial of an accumulator, whose row of `Layout.spec` is given, to a moment."""
    shape, span_ms, zone, length = spec[0], spec[3], spec[4], spec[5]
    if shape == of.DECAYED or shape == of.LEANING:
        epoch = time_ms // (span_ms * decay.EPOCH_HALVES)
        landmark_ms = epoch * span_ms * decay.EPOCH_HALVES
        step = (time_ms - landmark_ms) * decay.STEPS // span_ms
        dial[FROM] = landmark_ms - (-step * span_ms // decay.STEPS)
        dial[UNTIL] = landmark_ms - (-(step + 1) * span_ms // decay.STEPS)
        dial[BUCKET] = epoch
        dial[WEIGHT] = decay.weigh(time_ms, landmark_ms, span_ms)
    else:
        shift_ms = offset_ms(zones, zone, time_ms) if zone >= 0 else 0
        bucket = (time_ms + shift_ms) // span_ms
        dial[FROM] = time_ms if zone >= 0 else bucket * span_ms
        dial[UNTIL] = time_ms + 1 if zone >= 0 else (bucket + 1) * span_ms
        dial[BUCKET] = bucket
        dial[CELL] = bucket % length


@inlined_kernel
def weight_in(dial: Array, epoch: int, span_ms: int, time_ms: int) -> int:
    """Return the weight of an event in a row whose epoch is `epoch`, that of the dial or later."""
    if epoch == dial[BUCKET]:
        return dial[WEIGHT]
    return decay.weigh(time_ms, epoch * span_ms * decay.EPOCH_HALVES, span_ms)


@inlined_kernel
def step(
    spec: Array, dial: Array, zones: Array, wide: Array, narrow: Array, row: int, time_ms: int,
    value: int,
) -> None:  # fmt: skip
    """Let an accumulator, a row of `Layout.spec`, count one event in its row of a table."""
    shape, span_ms, length, at, ring = spec[0], spec[3], spec[5], spec[6], spec[7]
    turns = shape <= of.DECAYED or shape == of.LEANING
    if turns and not dial[FROM] <= time_ms < dial[UNTIL]:
        turn(dial, spec, zones, time_ms)
    bucket, cell = dial[BUCKET], dial[CELL]
    if shape == of.COUNT:
        windows.count(narrow, row, ring, length, cell, wide, at, bucket, 1)
    elif shape == of.SUM:
        windows.count(narrow, row, ring, length, cell, wide, at, bucket, value)
    elif shape == of.WIDE:
        windows.add(wide, row, at + 1, length, cell, wide, at, bucket, value)
    elif shape == of.DECAYED:
        enter_epoch(wide, row, at + 1, at, 1, bucket)
        wide[row, at] += value * weight_in(dial, wide[row, at + 1], span_ms, time_ms)
        wide[row, at + 2] = max(wide[row, at + 2], time_ms)
    elif shape == of.LAST:
        if time_ms >= wide[row, at]:
            wide[row, at] = time_ms
            wide[row, at + 1] = value
    elif shape == of.DISTINCT:
        middle = at + length
        remember(wide[row, at:middle], wide[row, middle : middle + length], value, time_ms)
    elif shape == of.LEANING:
        middle, slots = at + 2 + of.LEANING_SLOTS, of.LEANING_SLOTS
        enter_epoch(wide, row, at, middle, slots, bucket)
        weight = weight_in(dial, wide[row, at], span_ms, time_ms)
        weights = wide[row, middle : middle + slots]
        sketch.add(wide[row, at + 2 : middle], weights, value, weight)
        wide[row, at + 1] = max(wide[row, at + 1], time_ms)
    else:
        wide[row, at] = max(wide[row, at], time_ms)
        wide[row, at + 1] += value


@inlined_kernel
def fetch(
    wide: Array, narrow: Array, spec: Array, starts: Array, members: Array, dials: Array,
    slot: int, row: int,
) -> None:  # fmt: skip
    """Ask memory for the cells that an event of a slot will change in a row."""
    if slot < 0 or row == 0:
        return
    row &= FRESH - 1
    for place in range(starts[slot], starts[slot + 1]):
        which = members[place]
        prefetch(wide, row, spec[which, 6])
        if spec[which, 0] <= of.SUM:
            prefetch(narrow, row, spec[which, 7] + dials[which, CELL])


@inner_kernel
def take(
    scope: int, wide: Array, narrow: Array, own_cells: int, spec: Array, starts: Array,
    members: Array, dials: Array, zones: Array, events: Array, rows: Array,
) -> None:  # fmt: skip
    """Let all accumulators of one scope, its lists in `starts` and `members`, count the events."""
    for at in range(events.shape[0]):
        if at + AHEAD < events.shape[0]:
            slot, row = events[at + AHEAD, SLOT], rows[at + AHEAD, scope]
            fetch(wide, narrow, spec, starts, members, dials, slot, row)
        slot, row = events[at, SLOT], rows[at, scope]
        if slot == NO_EVENT or (row == 0 and scope != of.GLOBAL):
            continue
        if row >= FRESH:
            row -= FRESH
            narrow[row] = 0
        if slot == CLEARS:
            if row:
                narrow[row, 2 * own_cells :] = 0
            continue
        time_ms, start = events[at, TIME], events[at, START]
        if start == 2 or (start == 1 and scope == of.USER):
            for place in range(starts[of.SESSION_START], starts[of.SESSION_START + 1]):
                which = members[place]
                value = events[at, FIELDS_AT + spec[which, 2]]
                if value != MISSING:
                    step(spec[which], dials[which], zones, wide, narrow, row, time_ms, value)
        for place in range(starts[slot], starts[slot + 1]):
            which = members[place]
            value = events[at, FIELDS_AT + spec[which, 2]]
            if value != MISSING:
                step(spec[which], dials[which], zones, wide, narrow, row, time_ms, value)


@kernel
def fold(
    tables: Any, own_cells: Array, spec: Array, starts: Array, members: Array, zones: Array,
    operations: Array,
) -> None:  # fmt: skip
    """Apply `operations`, (n, 11) int64, in order, to `Tables`. `starts` and `members` hold a list
    for each scope and event slot, (6, slots + 1) and (6, longest)."""
    count = operations.shape[0]
    events = np.zeros((count, EVENT_WIDTH), np.int64)
    rows = np.zeros((count, 6), np.int64)
    dials = np.zeros((spec.shape[0], 4), np.int64)
    leanings, places = tables.leanings, tables.places
    meet(
        operations, tables.item_wide, tables.user_wide, tables.session_wide, tables.prices,
        tables.clock, leanings.key, leanings.row, leanings.touched, leanings.used,
        places.key, places.row, places.touched, places.used, events, rows,
    )  # fmt: skip
    for scope in range(6):
        wide, narrow = tables.shop_wide, tables.shop
        if scope == of.ITEM:
            wide, narrow = tables.item_wide, tables.item
        elif scope == of.USER:
            wide, narrow = tables.user_wide, tables.user
        elif scope == of.SESSION:
            wide, narrow = tables.session_wide, tables.session
        elif scope == of.USER_CATEGORY:
            wide, narrow = tables.leaning_wide, tables.leaning
        elif scope == of.ITEM_COUNTRY:
            wide, narrow = tables.place_wide, tables.place
        take(
            scope, wide, narrow, own_cells[scope], spec, starts[scope], members[scope], dials,
            zones, events, rows,
        )  # fmt: skip
