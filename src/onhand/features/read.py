"""Reading features: a whole list of rows at once, compiled.

A feature's reader is a row of integers (what it does, its accumulators, its sums, a time to live)
and a row of four floats (three parameters and the default), so that any feature set is read by this
one kernel. Windows that several features share are summed once. Every value is finite; what is
missing or past its time to live is the default. Only `gather` and `read_counted` take tuples of
arrays: see `fold`.
"""

from typing import Any, Final

import numpy as np

from onhand.features import accumulators as of
from onhand.features import pairs, windows
from onhand.features.fold import (
    AHEAD,
    BORN_CELL,
    CATEGORY_CELL,
    COUNTRY_CELL,
    DEVICE_CELL,
    EVENTS_CELL,
    FIRST_CELL,
    price_step,
)
from onhand.features.zones import offset_ms
from onhand.kernel import Array, inner_kernel, kernel, prefetch
from onhand.state import decay

__all__ = ["AGELESS", "READER_WIDTH", "gather"]

WINDOW: Final = 0
MEAN: Final = 1
RATIO: Final = 2
TREND: Final = 3
RELATIVE_PRICE: Final = 4
HOURS_OF_STOCK: Final = 5
DECAYED: Final = 6
LAST: Final = 7
SINCE: Final = 8
DISTINCT: Final = 9
TOP: Final = 10
MATCH: Final = 11
INTENT: Final = 12
FACT: Final = 13
PRICE_POSITION: Final = 14
TOUCHED: Final = 15
HOUR: Final = 16
WEEKDAY: Final = 17
DEVICE: Final = 18
COUNTRY: Final = 19
SESSION_AGE: Final = 20
SESSION_EVENTS: Final = 21

PRICE: Final = 0
STOCK: Final = 1
OPEN_SLOTS: Final = 2
CONGESTION: Final = 3
HELD: Final = 4
LISTED: Final = 5
AGE: Final = 6
CATEGORY: Final = 7
BRAND: Final = 8

BROWSING: Final = 0
COMPARING: Final = 1
BUYING: Final = 2

READER_WIDTH: Final = 9
"""code, up to three accumulators (-1: none), up to two sums (their places in the list of all),
ttl in ms, two parameters, whether the value depends on the item."""
CODE: Final = 0
FIRST: Final = 1
SUMS: Final = 4
TTL: Final = 6
PARAMETER: Final = 7
PER_ITEM: Final = 8
AGELESS: Final = -1
"""The age of a value that no event made."""


@inner_kernel
def place_windows(
    sums_of: Array, begin: int, end: int, spec: Array, zones: Array, now_ms: int, windows_at: Array
) -> None:
    """Write where windows that end now lie, (sums, 2): the newest bucket, and the place in the ring
    of the first."""
    for which in range(begin, end):
        at = sums_of[which, 0]
        if spec[at, 0] != of.TOTAL:
            now = (now_ms + offset_ms(zones, spec[at, 4], now_ms)) // spec[at, 3]
            windows_at[which, 0] = now
            windows_at[which, 1] = (now - sums_of[which, 1] + 1) % spec[at, 5]


@inner_kernel
def read_sums(
    scope: int, sums_of: Array, spec: Array, zones: Array, wide: Array, narrow: Array,
    rows: Array, now_ms: Array, skip: Array, windows_at: Array, sums: Array,
) -> None:  # fmt: skip
    """Write the windows (or whole counts) of one scope, (sums, n), a row of its table after the
    other: what lies side by side is read together. Those of one scope follow each other."""
    begin = 0
    while begin < sums_of.shape[0] and spec[sums_of[begin, 0], 1] < scope:
        begin += 1
    end = begin
    while end < sums_of.shape[0] and spec[sums_of[end, 0], 1] == scope:
        end += 1
    for place in range(rows.shape[0]):
        if skip[place]:
            for which in range(begin, end):
                sums[which, place] = sums[which, place - 1]
            continue
        if place == 0 or now_ms[place] != now_ms[place - 1]:
            place_windows(sums_of, begin, end, spec, zones, now_ms[place], windows_at)
        row = rows[place]
        ahead = rows[min(place + AHEAD, rows.shape[0] - 1)]
        for which in range(begin, end):
            at, buckets = sums_of[which, 0], sums_of[which, 1]
            cell, length, ring = spec[at, 6], spec[at, 5], spec[at, 7]
            prefetch(wide, ahead, cell)
            if ring:
                prefetch(narrow, ahead, ring)
                prefetch(narrow, ahead, ring + 16)
            if spec[at, 0] == of.TOTAL:
                sums[which, place] = wide[row, cell + 1]
                continue
            latest, now, first = wide[row, cell], windows_at[which, 0], windows_at[which, 1]
            if latest <= now - buckets:
                sums[which, place] = 0
            elif spec[at, 0] == of.WIDE:
                total = windows.total(wide, row, cell + 1, length, latest, now, buckets, first)
                sums[which, place] = total
            else:
                total = windows.total(narrow, row, ring, length, latest, now, buckets, first)
                sums[which, place] = total


@inner_kernel
def touched_ms(spec: Array, zones: Array, wide: Array, row: int) -> Any:
    """Return when an accumulator last counted, 0 for never; of a ring, its last bucket's start."""
    shape, at = spec[0], spec[6]
    if shape == of.COUNT or shape == of.SUM or shape == of.WIDE:
        local_ms = wide[row, at] * spec[3]
        return local_ms - offset_ms(zones, spec[4], local_ms) if local_ms else local_ms
    if shape == of.DECAYED:
        return wide[row, at + 2]
    if shape == of.LEANING:
        return wide[row, at + 1]
    return wide[row, at]


@inner_kernel
def distinct(spec: Array, wide: Array, row: int, most: int, buckets: int, now_ms: int) -> int:
    """Return how many members were seen in the window, `most` at most."""
    at, length, span_ms = spec[6], spec[5], spec[3]
    now = now_ms // span_ms
    seen = 0
    for place in range(at, at + length):
        if wide[row, place] == 0:
            break
        if now - buckets < wide[row, place] // span_ms <= now:
            seen += 1
    return min(seen, most)


@inner_kernel
def share(spec: Array, wide: Array, row: int, member: int) -> float:
    """Return the share of a leaning that `member` has, 0 to 1."""
    at = spec[6] + 2
    weight = total = np.int64(0)
    for slot in range(at, at + of.LEANING_SLOTS):
        total += wide[row, slot + of.LEANING_SLOTS]
        if member and wide[row, slot] == member:
            weight = wide[row, slot + of.LEANING_SLOTS]
    return weight / total if total > 0 else 0.0


@inner_kernel
def decayed(spec: Array, wide: Array, row: int, now_ms: int) -> float:
    """Return a decayed sum as of `now_ms`, which is never taken to lie before its last event."""
    at, half_life_ms = spec[6], spec[3]
    landmark_ms = wide[row, at + 1] * half_life_ms * decay.EPOCH_HALVES
    halves = (max(now_ms, wide[row, at + 2]) - landmark_ms) / half_life_ms
    return wide[row, at] / decay.UNIT * 2.0**-halves


@inner_kernel
def combine(
    code: int, part: Array, whole: Array, floats: Array, items: Array, price_cents: Array,
    stock: Array, out: Array,
) -> None:  # fmt: skip
    """Write what one or two sums come to."""
    scale, strength, nothing = floats[0], floats[1], floats[3]
    for at in range(out.shape[0]):
        value = nothing
        if code == WINDOW:
            value = part[at] * scale
        elif code == MEAN:
            if whole[at] > 0:
                value = part[at] / whole[at] * scale
        elif code == RATIO:
            if whole[at] + strength > 0:
                value = (part[at] + scale * strength) / (whole[at] + strength)
        elif code == TREND:
            value = (part[at] * scale + strength) / (whole[at] + strength)
        elif code == HOURS_OF_STOCK:
            if stock[items[at]] >= 0 and part[at] > 0:
                value = min(stock[items[at]] * scale / part[at], nothing)
        elif items[at] and part[at] > 0 and whole[at] > 0 and price_cents[items[at]] >= 0:
            value = price_cents[items[at]] * whole[at] / part[at]
        out[at] = value


@inner_kernel
def read_leaning(
    spec: Array, wide: Array, rows: Array, items: Array, attribute: Array, out: Array
) -> None:
    """Write the share of each item's category or brand in a leaning."""
    for at in range(rows.shape[0]):
        out[at] = share(spec, wide, rows[at], attribute[items[at]])


@inner_kernel
def read_intent(
    carts: Array, looked: Array, leans: Array, buckets: int, leaning: float, wide: Array,
    rows: Array, now_ms: Array, skip: Array, out: Array,
) -> None:  # fmt: skip
    """Write what each session is about: see `facts.intent`."""
    for at in range(rows.shape[0]):
        row = rows[at]
        if skip[at]:
            out[at] = out[at - 1]
        elif carts[at] > 0:
            out[at] = BUYING
        else:
            seen = distinct(looked, wide, row, looked[5], buckets, now_ms[at])
            most = share(leans, wide, row, wide[row, leans[6] + 2])
            out[at] = COMPARING if seen >= 2 and most >= leaning else BROWSING


@inner_kernel
def read_cells(
    code: int, spec: Array, floats: Array, parameter: int, zones: Array, wide: Array,
    rows: Array, now_ms: Array, skip: Array, out: Array,
) -> None:  # fmt: skip
    """Write what one accumulator that is no window says, for all rows."""
    cell = spec[6]
    for at in range(rows.shape[0]):
        row, value = rows[at], floats[3]
        if skip[at]:
            value = out[at - 1]
        elif code == DECAYED:
            value = decayed(spec, wide, row, now_ms[at]) * floats[0]
        elif code == LAST:
            if wide[row, cell]:
                value = wide[row, cell + 1] * floats[0]
        elif code == SINCE:
            latest_ms = touched_ms(spec, zones, wide, row)
            if latest_ms:
                value = max(now_ms[at] - latest_ms, 0) / 1000
        elif code == DISTINCT:
            value = float(distinct(spec, wide, row, int(floats[0]), parameter, now_ms[at]))
        else:
            member = wide[row, cell + 2 + parameter]
            if member:
                value = float(member)
        out[at] = value


@inner_kernel
def read_ages(
    reader: Array, spec: Array, zones: Array, wide: Array, rows: Array, now_ms: Array,
    skip: Array, out: Array,
) -> None:  # fmt: skip
    """Write how old each value is in ms: since the latest event that it counts."""
    for at in range(rows.shape[0]):
        if skip[at]:
            out[at] = out[at - 1]
            continue
        latest = np.int64(0)
        for place in range(FIRST, FIRST + 3):
            if reader[place] >= 0:
                latest = max(latest, touched_ms(spec[reader[place]], zones, wide, rows[at]))
        out[at] = max(now_ms[at] - latest, 0) if latest else AGELESS


@inner_kernel
def price_position(prices: Array, category: int, price_cents: int) -> float:
    """Return the share of a category's listed items that are cheaper, those of the same step
    counting half; -1 where there is none to compare with."""
    mine = price_step(price_cents)
    below = total = 0
    for step in range(prices.shape[1]):
        total += 2 * prices[category, step]
        if step < mine:
            below += 2 * prices[category, step]
        elif step == mine:
            below += prices[category, step]
    return below / total if total > 0 else -1.0


@inner_kernel
def read_fact(items: Any, which: int, whose: Array, now_ms: Array, out: Array) -> None:
    """Write a fact about each item out of the state's columns, -1 where it is unknown."""
    price_cents, created_ms = items.price_cents, items.created_ms
    for at in range(whose.shape[0]):
        item = whose[at, 0]
        value = -1.0
        if item == 0:
            pass
        elif which == PRICE:
            value = price_cents[item] / 100 if price_cents[item] >= 0 else -1.0
        elif which == STOCK:
            value = float(items.stock[item])
        elif which == OPEN_SLOTS:
            value = float(items.slots[item])
        elif which == CONGESTION:
            value = float(items.congestion[item])
        elif which == HELD:
            value = float(items.held[item])
        elif which == LISTED:
            value = float(items.listed[item])
        elif which == AGE:
            if created_ms[item] != 0:
                value = max(now_ms[at] - created_ms[item], 0) / 3_600_000
        elif which == CATEGORY:
            value = float(items.category[item]) if items.category[item] else -1.0
        elif which == BRAND:
            value = float(items.brand[item]) if items.brand[item] else -1.0
        out[at] = value


@inner_kernel
def read_position(
    prices: Array, category: Array, price_cents: Array, whose: Array, out: Array
) -> None:
    """Write each item's price position, -1 where it is unknown."""
    for at in range(whose.shape[0]):
        item = whose[at, 0]
        out[at] = -1.0
        if item and price_cents[item] >= 0:
            out[at] = price_position(prices, category[item], price_cents[item])


@inner_kernel
def read_touched(
    members: Array, times: Array, who: Array, item: Array, now_ms: Array, out: Array
) -> None:
    """Write the seconds since each visitor touched the item, -1 where it is not in the list."""
    for at in range(who.shape[0]):
        out[at] = -1.0
        for slot in range(members.shape[1]):
            member = members[who[at], slot]
            if member == 0:
                break
            if member == item[at]:
                out[at] = max(now_ms[at] - times[who[at], slot], 0) / 1000
                break


@inner_kernel
def read_visit(
    code: int, own: Array, zones: Array, zone_of: Array, whose: Array, now_ms: Array, out: Array
) -> None:
    """Write what is known of the visit itself, -1 where it is unknown. `own` are the sessions'
    64-bit cells."""
    for at in range(whose.shape[0]):
        session, country, device = whose[at, 2], whose[at, 3], whose[at, 4]
        value = -1.0
        if code in (HOUR, WEEKDAY):
            local_ms = now_ms[at] + offset_ms(zones, zone_of[country], now_ms[at])
            if code == HOUR:
                value = float(local_ms // 3_600_000 % 24)
            else:
                value = float((local_ms // 86_400_000 + 3) % 7)
        elif code == DEVICE:
            value = float(device) if device else -1.0
        elif code == COUNTRY:
            value = float(country) if country else -1.0
        elif code == SESSION_AGE:
            if own[session, FIRST_CELL]:
                value = max(now_ms[at] - own[session, FIRST_CELL], 0) / 1000
        else:
            value = float(own[session, EVENTS_CELL])
        out[at] = value


@kernel
def scope_cells(tables: Any, scope: int) -> Any:
    """Return the 64-bit cells of a scope's table."""
    if scope == of.ITEM:
        return tables.item_wide
    if scope == of.USER:
        return tables.user_wide
    if scope == of.SESSION:
        return tables.session_wide
    if scope == of.USER_CATEGORY:
        return tables.leaning_wide
    if scope == of.ITEM_COUNTRY:
        return tables.place_wide
    return tables.shop_wide


@kernel
def scope_rings(tables: Any, scope: int) -> Any:
    """Return the 32-bit cells of a scope's table."""
    if scope == of.ITEM:
        return tables.item
    if scope == of.USER:
        return tables.user
    if scope == of.SESSION:
        return tables.session
    if scope == of.USER_CATEGORY:
        return tables.leaning
    if scope == of.ITEM_COUNTRY:
        return tables.place
    return tables.shop


@inner_kernel
def find_rows(
    whose: Array, rows: Array, sessions: Array, users: Array, items: Array,
    lean_key: Array, lean_row: Array, lean_touched: Array,
    place_key: Array, place_row: Array, place_touched: Array,
) -> None:  # fmt: skip
    """Set the row of each scope, (6, n), for (item, user, session, country, device), (n, 5); fill
    in the country and the device of the session where the asker names none."""
    for at in range(whose.shape[0]):
        item, user, session = whose[at, 0], whose[at, 1], whose[at, 2]
        if whose[at, 3] == 0:
            whose[at, 3] = sessions[session, COUNTRY_CELL]
        if whose[at, 4] == 0:
            whose[at, 4] = sessions[session, DEVICE_CELL]
        rows[of.ITEM, at], rows[of.USER, at], rows[of.SESSION, at] = item, user, session
        category, country = items[item, CATEGORY_CELL], whose[at, 3]
        if user and category:
            key, born = user << 32 | category, users[user, BORN_CELL]
            rows[of.USER_CATEGORY, at] = pairs.find(lean_key, lean_row, lean_touched, key, born)
        if item and country:
            key = item << 32 | country
            rows[of.ITEM_COUNTRY, at] = pairs.find(place_key, place_row, place_touched, key, 0)


@kernel
def find_same(whose: Array, now_ms: Array) -> Any:
    """Return which rows are of the same visitor and moment as the one before, (n,) bool."""
    same = np.zeros(whose.shape[0], np.bool_)
    for at in range(1, whose.shape[0]):
        same[at] = now_ms[at] == now_ms[at - 1]
        for part in range(1, 5):
            if whose[at, part] != whose[at - 1, part]:
                same[at] = False
    return same


@inner_kernel
def read_counted(
    reader: Array, floats: Array, tables: Any, spec: Array, zones: Array, items: Any,
    rows: Array, now_ms: Array, skip: Array, sums: Array, out: Array, age: Array, aged: bool,
) -> None:  # fmt: skip
    """Write one feature that is made of accumulators, (n,), and with `aged` its ages."""
    code, first = reader[CODE], spec[reader[FIRST]]
    scope = first[1]
    wide = scope_cells(tables, scope)
    item = rows[of.ITEM]
    part, whole = sums[max(reader[SUMS], 0)], sums[max(reader[SUMS + 1], 0)]
    if code == MATCH:
        attribute = items.category if reader[PARAMETER] == CATEGORY else items.brand
        read_leaning(first, wide, rows[scope], item, attribute, out)
    elif code == INTENT:
        looked, leans = spec[reader[FIRST + 1]], spec[reader[FIRST + 2]]
        read_intent(
            part, looked, leans, reader[PARAMETER], floats[0], wide, rows[scope], now_ms, skip, out
        )
    elif code >= DECAYED and code <= TOP:
        read_cells(
            code, first, floats, reader[PARAMETER], zones, wide, rows[scope], now_ms, skip, out
        )  # fmt: skip
    else:
        combine(code, part, whole, floats, item, items.price_cents, items.stock, out)
    if aged:
        read_ages(reader, spec, zones, wide, rows[scope], now_ms, skip, age)
        if reader[TTL] > 0:
            for at in range(out.shape[0]):
                if age[at] == AGELESS or age[at] > reader[TTL]:
                    out[at] = floats[3]


@kernel
def gather(
    readers: Array, floats: Array, sums_of: Array, tables: Any, spec: Array, zones: Array,
    zone_of: Array, items: Any, sessions: Any, users: Any, whose: Array, now_ms: Array,
    values: Array, ages: Array,
) -> None:  # fmt: skip
    """Write `values`, (n, features) float32, for `whose`, (n, 5) int64 rows of item, user,
    session, country and device, at `now_ms`, (n,); and `ages`, (n, features) int64 ms, unless it
    is empty. `sums_of`, (sums, 2), are the accumulators and buckets that are added up, each once.
    What does not depend on the item is read once for rows of one visitor."""
    count = whose.shape[0]
    rows = np.zeros((6, count), np.int64)
    out, age = np.zeros(count), np.zeros(count, np.int64)
    leanings, places = tables.leanings, tables.places
    find_rows(
        whose, rows, tables.session_wide, tables.user_wide, tables.item_wide,
        leanings.key, leanings.row, leanings.touched, places.key, places.row, places.touched,
    )  # fmt: skip
    none, same = np.zeros(count, np.bool_), find_same(whose, now_ms)
    sums = np.zeros((max(sums_of.shape[0], 1), count), np.int64)
    windows_at = np.empty((sums_of.shape[0], 2), np.int64)
    for scope in range(6):
        per_item = scope == of.ITEM or scope == of.USER_CATEGORY or scope == of.ITEM_COUNTRY
        read_sums(
            scope, sums_of, spec, zones, scope_cells(tables, scope), scope_rings(tables, scope),
            rows[scope], now_ms, none if per_item else same, windows_at, sums,
        )  # fmt: skip
    for column in range(readers.shape[0]):
        reader, parameters = readers[column], floats[column]
        code = reader[CODE]
        age[:] = AGELESS
        if reader[FIRST] >= 0:
            skip = none if reader[PER_ITEM] else same
            aged = ages.shape[0] > 0 or reader[TTL] > 0
            read_counted(
                reader, parameters, tables, spec, zones, items, rows, now_ms, skip, sums, out,
                age, aged,
            )  # fmt: skip
        else:
            if code == FACT:
                read_fact(items, reader[PARAMETER], whose, now_ms, out)
            elif code == PRICE_POSITION:
                read_position(tables.prices, items.category, items.price_cents, whose, out)
            elif code == TOUCHED and reader[PARAMETER] == of.SESSION:
                members, times = sessions.recent_item, sessions.recent_ms
                read_touched(members, times, rows[of.SESSION], rows[of.ITEM], now_ms, out)
            elif code == TOUCHED:
                members, times = users.recent_item, users.recent_ms
                read_touched(members, times, rows[of.USER], rows[of.ITEM], now_ms, out)
            else:
                read_visit(code, tables.session_wide, zones, zone_of, whose, now_ms, out)
            for at in range(count):
                out[at] = out[at] if out[at] >= 0 else parameters[3]
        for at in range(count):
            values[at, column] = out[at]
        if ages.shape[0]:
            ages[:, column] = age
