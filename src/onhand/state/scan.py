"""Operations straight from the log's bytes: what `operations` does with records, compiled.

A restart reads millions of records only to find the row of each name in them. So a kernel goes
through the MessagePack of a batch, without the interpreter lock and without making a record, and
looks the names up in a table of its own (open addressing; whole names are compared). What it does
not know (a new name, a search, a fact about an item other than its stock) it leaves, and those
records are decoded and named as ever, in their place. The state's dictionaries are the truth; the
table follows them.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.records import Event, Record
from onhand.kernel import Array, inlined_kernel, inner_kernel, kernel
from onhand.state import fold
from onhand.state.contexts import REFERRERS
from onhand.state.operations import MISSING, WIDTH, operations_each

if TYPE_CHECKING:
    from onhand.state.state import State

__all__ = ["Scanner"]

PAD: Final = 16
"""Bytes behind a batch, so that a number can be read wherever one begins."""

_MIX: Final = -7046029254386353131  # odd, half of its bits set: 2**64 over the golden ratio

TYPE: Final = 0
ITEM: Final = 1
USER: Final = 2
SESSION: Final = 3
OWN: Final = 4  # the session of a user who names none, by the user's name
COUNTRY: Final = 5
DEVICE: Final = 6
REFERRER: Final = 7  # by what of it is counted

ROW: Final = 1
START: Final = 2
TAG: Final = 3
"""A slot of the table: hash, row, where the name lies, its length and kind; row 0 is none."""

BEGIN: Final = 10
END: Final = 11
SPANS: Final = 12
"""Of each record: where its item, user, session, country and device lie, each begin and length
(-1: there is none), and where it begins and ends itself."""
ODD_EVENT: Final = -1
ODD_FACT: Final = -2
"""In place of an operation: an event, or another record, that is left to Python."""


def _word(text: str) -> int:
    return int.from_bytes(text.encode()[:8], "little")


W_KIND: Final = _word("kind")
W_EVENT: Final = _word("event")
W_SIGNAL: Final = _word("signal")
W_ITEM: Final = _word("item")
W_PATCH: Final = _word("item_patch")
W_DELETE: Final = _word("item_delete")
W_TYPE: Final = _word("type")
W_USER: Final = _word("user")
W_SESSION: Final = _word("session")
W_TIME: Final = _word("time")
W_ID: Final = _word("id")
W_VALUE: Final = _word("value")
W_QUANTITY: Final = _word("quantity")
W_QUERY: Final = _word("query")
W_POSITION: Final = _word("position")
W_DWELL: Final = _word("dwell_ms")
W_CONTEXT: Final = _word("context")
W_COUNTRY: Final = _word("country")
W_DEVICE: Final = _word("device")
W_REFERRER: Final = _word("referrer")
W_WWW: Final = _word("www.")
W_STOCK: Final = _word("stock")
W_CURRENCY: Final = _word("currency")


@inlined_kernel
def number(body: Array, at: int, size: Any) -> Any:
    """Return `size` bytes as a number, the highest first."""
    value = np.int64(0)
    for byte in range(size):
        value = (value << 8) | np.int64(body[at + byte])
    return value


@inlined_kernel
def text(body: Array, at: int) -> Any:
    """Return where the text at `at` begins and its length, -1 where there is none."""
    head = body[at]
    if 0xA0 <= head <= 0xBF:
        return at + 1, np.int64(head & 31)
    if 0xD9 <= head <= 0xDB:
        size = 1 << (head - 0xD9)
        return at + 1 + size, number(body, at + 1, size)
    return at, np.int64(-1)


@inlined_kernel
def word(body: Array, at: int, length: Any) -> Any:
    """Return the first eight bytes of a text as a number, as `_word` does."""
    value = np.int64(0)
    for byte in range(8):
        value |= np.int64(body[at + byte]) << (8 * byte)
    return value if length >= 8 else value & ((1 << 8 * length) - 1)


@inlined_kernel
def integer(body: Array, at: int) -> Any:
    """Return the integer at `at`, and whether there is one."""
    head = np.int64(body[at])
    if head < 0x80:
        return head, True
    if head >= 0xE0:
        return head - 256, True
    if 0xCC <= head <= 0xCF:
        return number(body, at + 1, 1 << (head - 0xCC)), True
    if 0xD0 <= head <= 0xD3:
        bits = 8 << (head - 0xD0)
        return number(body, at + 1, bits >> 3) << (64 - bits) >> (64 - bits), True
    return np.int64(0), False


@inner_kernel
def behind(body: Array, at: Any) -> Any:
    """Return where the value at `at` ends; past the body where it is none that records have."""
    size = body.shape[0]
    left = np.int64(1)
    while left > 0 and at < size - PAD:
        left -= 1
        head = np.int64(body[at])
        if head < 0x80 or head >= 0xE0 or head == 0xC0 or head == 0xC2 or head == 0xC3:
            at += 1
        elif head < 0x90:
            left += 2 * (head & 15)
            at += 1
        elif head < 0xA0:
            left += head & 15
            at += 1
        elif head < 0xC0 or 0xD9 <= head <= 0xDB:
            begin, length = text(body, at)
            at = begin + length
        elif 0xCC <= head <= 0xD3:
            at += 1 + (1 << (head & 3))
        elif head == 0xCA or head == 0xCB:
            at += 5 + 4 * (head & 1)
        elif head == 0xDC or head == 0xDD:
            left += number(body, at + 1, 2 << (head & 1))
            at += 1 + (2 << (head & 1))
        elif head == 0xDE or head == 0xDF:
            left += 2 * number(body, at + 1, 2 << (head & 1))
            at += 1 + (2 << (head & 1))
        else:
            return size
    return at if left == 0 else size


@inner_kernel
def place(
    slots: Array, arena: Array, body: Array, at: Any, length: Any, kind: int, seed: int
) -> Any:
    """Return the slot of a name, or the free one where it would be, and its hash."""
    hashed = np.int64(seed) + kind
    for byte in range(0, length, 8):
        hashed = (hashed ^ word(body, at + byte, length - byte)) * _MIX
        hashed ^= hashed >> 29
    tag = length << 8 | kind
    slot = hashed & (slots.shape[0] - 1)
    while slots[slot, ROW] != 0:
        if slots[slot, 0] == hashed and slots[slot, TAG] == tag:
            start, byte = slots[slot, START], 0
            while byte < length and (
                word(arena, start + byte, length - byte) == word(body, at + byte, length - byte)
            ):
                byte += 8
            if byte >= length:
                break
        slot = (slot + 1) & (slots.shape[0] - 1)
    return slot, hashed


@inner_kernel
def host_of(body: Array, at: Any, length: Any) -> Any:
    """Return where `referrer_name` of a referrer begins and its length, 0 where that has to be
    changed into small letters."""
    stop = at + length
    begin = at
    for byte in range(at, stop - 2):
        if body[byte] == 58 and body[byte + 1] == 47 and body[byte + 2] == 47:  # ://
            begin = byte + 3
    end = begin
    while end < stop and body[end] != 47:
        if body[end] >= 128 or 65 <= body[end] <= 90:
            return begin, 0
        end += 1
    if end - begin >= 4 and word(body, begin, 4) == W_WWW:
        begin += 4
    return begin, end - begin


@inner_kernel
def session_of(body: Array, spans: Array) -> Any:
    """Return begin, length and kind of the name of an event's session, whose spans are given."""
    at, length = spans[4], spans[5]
    if length < 0:
        return spans[2], spans[3], OWN
    if length > 0 and body[at] == 0:
        return at + 1, length - 1, OWN
    return at, length, SESSION


@inner_kernel
def row_of(
    slots: Array, arena: Array, body: Array, at: Any, length: Any, kind: int, seed: int
) -> int:
    """Return the row of a name, 0 of none, -1 of one that is not in the table."""
    if length < 0:
        return 0
    slot, _ = place(slots, arena, body, at, length, kind, seed)
    return slots[slot, ROW] if slots[slot, ROW] else -1


@inner_kernel
def learn(
    slots: Array, arena: Array, used: Array, body: Array, at: Any, length: Any, kind: int,
    seed: int, row: int,
) -> None:  # fmt: skip
    """Put a name into the table, if it is not there. `used` counts slots and bytes of `arena`."""
    slot, hashed = place(slots, arena, body, at, length, kind, seed)
    if slots[slot, ROW] == 0:
        slots[slot, 0] = hashed
        slots[slot, ROW] = row
        slots[slot, START] = used[1]
        slots[slot, TAG] = length << 8 | kind
        for byte in range(length):
            arena[used[1] + byte] = body[at + byte]
        used[0] += 1
        used[1] += length


@kernel
def learn_names(
    slots: Array,
    arena: Array,
    used: Array,
    body: Array,
    kind: int,
    seed: int,
    rows: Array,
) -> None:
    """Put a batch of names into the table, with their rows, (n,) int64."""
    at = 0
    for row in rows:
        begin, length = text(body, at)
        at = begin + length
        if kind == SESSION and length > 0 and body[begin] == 0:
            learn(slots, arena, used, body, begin + 1, length - 1, OWN, seed, row)
        else:
            learn(slots, arena, used, body, begin, length, kind, seed, row)


@kernel
def learn_events(
    slots: Array,
    arena: Array,
    used: Array,
    body: Array,
    seed: int,
    spans: Array,
    events: Array,
) -> None:
    """Put the names of events into the table: their spans and their operations, (n, ...) each."""
    for at in range(events.shape[0]):
        for which, kind, cell in (
            (0, ITEM, 1),
            (1, USER, 3),
            (3, COUNTRY, 4),
            (4, DEVICE, 10),
        ):
            begin, length = spans[at, 2 * which], spans[at, 2 * which + 1]
            if length >= 0 and events[at, cell]:
                learn(
                    slots,
                    arena,
                    used,
                    body,
                    begin,
                    length,
                    kind,
                    seed,
                    events[at, cell],
                )
        begin, length, kind = session_of(body, spans[at])
        if length >= 0:
            learn(slots, arena, used, body, begin, length, kind, seed, events[at, 2])


@kernel
def move(slots: Array, larger: Array) -> None:
    """Put what is in the table into a larger one."""
    for slot in range(slots.shape[0]):
        if slots[slot, ROW] != 0:
            free = slots[slot, 0] & (larger.shape[0] - 1)
            while larger[free, ROW] != 0:
                free = (free + 1) & (larger.shape[0] - 1)
            larger[free] = slots[slot]


@kernel
def scan(
    body: Array, count: int, slots: Array, arena: Array, seed: int, full: bool,
    operations: Array, spans: Array, ids: Array,
) -> Any:  # fmt: skip
    """Write the operations of `count` records, one or, with a referrer, two each, and where the
    names of each operation's record lie: (2 count, WIDTH) and (2 count, SPANS); and the ids of all
    events as MessagePack texts. `full` says that new referrers are row 0. Return how many
    operations, how many ids, and the ids' bytes; -1 where the batch must be left to Python."""
    size = body.shape[0] - PAD
    bits = np.zeros(1, np.int64)
    real = bits.view(np.float64)
    at, rows, names, id_bytes = 0, 0, 0, 0
    for _ in range(count):
        operation, span = operations[rows], spans[rows]
        rows += 1
        operation[:] = 0
        operation[6], operation[7], operation[8], operation[9] = 1, MISSING, -1, -1
        span[:BEGIN] = -1
        span[BEGIN] = at
        fields = np.int64(body[at]) & 15
        if body[at] == 0xDE:
            fields = number(body, at + 1, 2)
            at += 2
        elif body[at] >> 4 != 8:
            return -1, 0, 0
        at += 1
        record = type_at = type_length = host_at = host_length = np.int64(0)
        odd = timed = stocked = asked = referred = False
        inside = np.int64(0)  # fields that are left of the context
        while fields + inside > 0:
            nested = inside > 0
            if nested:
                inside -= 1
            else:
                fields -= 1
            begin, length = text(body, at)
            key = word(body, begin, length) if length <= 8 else 0
            at = begin + length
            if length <= 0 or at >= size or (record == 0 and key != W_KIND):
                return -1, 0, 0
            begin, length = text(body, at)
            value, whole = integer(body, at)
            if key == W_CONTEXT and record == W_EVENT and body[at] >> 4 == 8:
                inside = np.int64(body[at]) & 15
                at += 1
                continue
            if key == W_KIND:
                record = word(body, begin, length)
            elif nested:
                if key == W_COUNTRY:
                    span[6], span[7] = begin, length
                elif key == W_DEVICE:
                    span[8], span[9] = begin, length
                elif key == W_REFERRER and length > 0:
                    host_at, host_length = host_of(body, begin, length)
                    referred = True
                    odd |= host_length == 0
            elif record == W_EVENT and length >= 0:
                if key == W_TYPE:
                    type_at, type_length = begin, length
                elif key == W_ITEM:
                    span[0], span[1] = begin, length
                elif key == W_USER:
                    span[2], span[3] = begin, length
                elif key == W_SESSION:
                    span[4], span[5] = begin, length
                elif key == W_QUERY:
                    asked = length > 0
                elif key == W_ID:
                    if begin + length > size:
                        return -1, 0, 0
                    for byte in range(at, begin + length):
                        ids[id_bytes] = body[byte]
                        id_bytes += 1
                    names += 1
            elif record == W_EVENT and whole:
                if key == W_TIME:
                    operation[5], timed = value, True
                elif key == W_QUANTITY:
                    operation[6] = value
                elif key == W_DWELL:
                    operation[8] = value
                elif key == W_POSITION:
                    operation[9] = value
                odd |= key == W_VALUE
            elif record == W_EVENT and key == W_VALUE:
                bits[0] = number(body, at + 1, 8)
                operation[7] = np.int64(np.rint(real[0] * 100))
                odd |= body[at] != 0xCB
            elif record == W_SIGNAL:
                if key == W_ITEM:
                    span[0], span[1] = begin, length
                elif key == W_STOCK and (whole or body[at] == 0xC0):
                    operation[6], stocked = value if whole else -1, True
                else:
                    odd |= key != W_CURRENCY
            at = behind(body, at)
            if at > size:
                return -1, 0, 0
        span[END] = at
        if record == W_EVENT:
            kind = row_of(slots, arena, body, type_at, type_length, TYPE, seed)
            operation[0] = kind - 1 if kind > 0 else fold.OTHER
            operation[1] = row_of(slots, arena, body, span[0], span[1], ITEM, seed)
            begin, length, named = session_of(body, span)
            operation[2] = row_of(slots, arena, body, begin, length, named, seed)
            operation[3] = row_of(slots, arena, body, span[2], span[3], USER, seed)
            operation[4] = row_of(slots, arena, body, span[6], span[7], COUNTRY, seed)
            operation[10] = row_of(slots, arena, body, span[8], span[9], DEVICE, seed)
            odd |= not timed or operation[2] == 0 or (asked and operation[0] == fold.SEARCH)
            odd |= (
                min(
                    operation[1],
                    operation[2],
                    operation[3],
                    operation[4],
                    operation[10],
                )
                < 0
            )
            referrer = np.int64(0)
            if referred:
                referrer = row_of(slots, arena, body, host_at, host_length, REFERRER, seed)
                odd |= referrer < 0 and not full
            if odd:
                operation[0] = ODD_EVENT
            elif referred:
                operations[rows] = operation
                operation[:] = 0
                operation[0], operation[2] = fold.REFERRER, operations[rows, 2]
                operation[6] = max(referrer, 0)
                rows += 1
        elif record == W_SIGNAL:
            operation[0] = fold.STOCK
            operation[1] = row_of(slots, arena, body, span[0], span[1], ITEM, seed)
            operation[7:10] = 0
            if odd or not stocked or operation[1] <= 0:
                operation[0] = ODD_FACT
        elif record in (W_ITEM, W_PATCH, W_DELETE):
            operation[0] = ODD_FACT
        else:
            return -1, 0, 0
    if at != size:
        return -1, 0, 0
    return rows, names, id_bytes


class Scanner:
    """Names the records of batches one after another, for whoever reads much of a log.

    `seed` is of the table's hashes: nobody who chooses ids should know it.
    """

    def __init__(self, state: "State", seed: int) -> None:
        self._state = state
        self._seed = seed
        self._decode = msgspec.msgpack.Decoder(list[Record]).decode
        self._ids = msgspec.msgpack.Decoder(list[str]).decode
        self._begin()

    def name(self, batch: bytes, count: int) -> NDArray[np.int64]:
        """Return the operations of `count` records, MessagePack one behind the other, as
        `State.name` does. Raises `msgspec.DecodeError` where they are no records."""
        state = self._state
        if state.held.active or not state.is_room(count):
            return state.name(self._decode(_array(count, batch)))
        if self._left != self._departures():
            self._begin()
        body = np.frombuffer(batch + bytes(PAD), np.uint8)
        operations = np.empty((2 * count, WIDTH), np.int64)
        spans = np.empty((2 * count, SPANS), np.int64)
        ids = np.empty(len(body), np.uint8)
        rows, names, size = scan(
            body, count, self._slots, self._arena, self._seed, len(state.referrers) >= REFERRERS,
            operations, spans, ids,
        )  # fmt: skip
        operations = operations[:rows]
        if rows < 0 or not state.seen.add_new(self._ids(_array(names, ids[:size].tobytes()))):
            return state.name(self._decode(_array(count, batch)))
        odd = np.flatnonzero(operations[:, 0] < 0)
        if not len(odd):
            return operations
        return self._complete(batch, body, operations, spans, odd)

    def _complete(
        self,
        batch: bytes,
        body: NDArray[np.uint8],
        operations: NDArray[np.int64],
        spans: NDArray[np.int64],
        odd: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Put the operations of odd records in their places, and learn the names of events."""
        elements = b"".join(batch[begin:end] for begin, end in spans[odd, BEGIN:].tolist())
        records = self._decode(_array(len(odd), elements))
        for record in records:
            if type(record) is Event:
                record.id = None  # `seen` has it already
        rows, widths = operations_each(self._state, records)
        events = rows[(rows[:, 0] <= fold.OTHER) | (rows[:, 0] >= fold.CUSTOM)]
        whose = spans[odd[operations[odd, 0] == ODD_EVENT]]
        self._make_room(5 * len(events), len(body))
        self._learn(REFERRER, dict(list(self._state.referrers.rows.items())[self._referrers :]))
        self._referrers = len(self._state.referrers.rows)
        learn_events(self._slots, self._arena, self._used, body, self._seed, whose, events)
        is_odd = operations[:, 0] < 0
        counts = np.ones(len(operations), np.int64)
        counts[odd] = widths
        from_odd = np.repeat(is_odd, counts)
        whole = np.empty((len(from_odd), WIDTH), np.int64)
        whole[from_odd] = rows
        whole[~from_odd] = operations[~is_odd]
        return whole

    def _departures(self) -> int:
        return self._state.users.departures + self._state.sessions.departures

    def _begin(self) -> None:
        """Fill the table with the names that the state has."""
        state = self._state
        self._left = self._departures()
        self._slots = np.zeros((1 << 16, 4), np.int64)
        self._arena = np.zeros(1 << 20, np.uint8)
        self._used = np.zeros(2, np.int64)
        types = {name: kind + 1 for name, kind in state.kinds.items()}
        for kind, rows in (
            (TYPE, types),
            (ITEM, state.items.rows),
            (USER, state.users.rows),
            (SESSION, state.sessions.rows),
            (COUNTRY, state.countries.rows),
            (DEVICE, state.devices.rows),
            (REFERRER, state.referrers.rows),
        ):
            self._learn(kind, rows)
        self._referrers = len(state.referrers.rows)

    def _learn(self, kind: int, rows: dict[str, int]) -> None:
        """Put names of a kind into the table."""
        names = b"".join(map(msgspec.msgpack.encode, rows))
        body = np.frombuffer(names + bytes(PAD), np.uint8)
        self._make_room(len(rows), len(body))
        numbers = np.fromiter(rows.values(), np.int64, len(rows))
        learn_names(self._slots, self._arena, self._used, body, kind, self._seed, numbers)

    def _make_room(self, names: int, size: int) -> None:
        """Make the table fit for so many names more, of so many bytes."""
        while 2 * (self._used[0] + names) > len(self._slots):
            larger = np.zeros((2 * len(self._slots), 4), np.int64)
            move(self._slots, larger)
            self._slots = larger
        while self._used[1] + size + PAD > len(self._arena):
            self._arena = np.concatenate([self._arena, np.zeros_like(self._arena)])


def _array(count: int, elements: bytes) -> bytes:
    """Return MessagePack elements as one array."""
    return b"\xdd" + count.to_bytes(4, "big") + elements
