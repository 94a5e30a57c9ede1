"""Operations straight from the log's bytes: what `operations` does with records, compiled.

A restart reads millions of records only to find the row of each name in them. So two kernels go
through the MessagePack of a batch, without the interpreter lock and without making a record: one
finds where the names of each record lie, the other looks them up (`lookup`) and gives new
visitors and items their rows. Python learns these all at once. What is left to it (a search, a new
country, a fact about an item other than its stock) is decoded and named as ever, in its place.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.records import Record
from onhand.kernel import Array, inlined_kernel, inner_kernel, kernel
from onhand.state import fold
from onhand.state.contexts import REFERRERS
from onhand.state.lookup import (
    PAD,
    ROW,
    Table,
    enter,
    expect,
    expect_text,
    hash_of,
    number,
    place,
    text,
    word,
)
from onhand.state.names import Mark, Names
from onhand.state.operations import MISSING, WIDTH, operations_each

if TYPE_CHECKING:
    from onhand.state.state import State

__all__ = ["Scanner"]

TYPE: Final = 0
ITEM: Final = 1
USER: Final = 2
SESSION: Final = 3
COUNTRY: Final = 4
DEVICE: Final = 5
REFERRER: Final = 6  # by what of it is counted
OWN: Final = 7  # the session of a user who names none, by the user's name
NEW: Final = (USER, SESSION, ITEM)
"""Names that get their rows here."""
KNOWN: Final = (TYPE, COUNTRY, DEVICE, REFERRER)
BEGINS: Final[Array] = np.array([0, fold.NEW_ITEM, fold.CLEAR_USER, fold.CLEAR_SESSION], np.int64)
PLACES: Final[Array] = np.array([0, 1, 3, 2], np.int64)
"""By kind: the operation of a new name, and where its row stands in one."""

RECORD: Final = 0  # an event, the stock of an item, another fact, or an event that was seen
ODD: Final = 1
TIME: Final = 2
QUANTITY: Final = 3
WORTH: Final = 4
DWELL: Final = 5
POSITION: Final = 6
BEGIN: Final = 7
END: Final = 8
OWNER: Final = 9  # the kind of the session's name
NAMES: Final = 10
ROWS: Final = NAMES + 2
FIELDS: Final = NAMES + 3 * (REFERRER + 1)
"""What is found of a record: numbers, where it lies, and of each kind of name where that begins,
its length (-1: there is none) and its hash, then its row."""
EVENT: Final = 0
STOCK: Final = 1
FACT: Final = 2
SEEN: Final = 3
LEFT: Final = -1
"""In place of an operation: a record, whose number follows, that is left to Python."""
MOST: Final = 5
"""Operations of a record: its event, a referrer, and a new item, session and user."""
AHEAD: Final = 8
"""So many records before its turn, memory is asked for the slots of one's names."""


def _word(text: str) -> int:
    return int.from_bytes(text.encode()[:8], "little")


W_KIND: Final = _word("kind")
W_EVENT: Final = _word("event")
W_SIGNAL: Final = _word("signal")
W_ITEM: Final = _word("item")
W_PATCH: Final = _word("item_patch")
W_DELETE: Final = _word("item_delete")
W_TYPE: Final = _word("type")
W_SEARCH: Final = _word("search")
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


@inlined_kernel
def note(found: Array, kind: int, body: Array, begin: Any, length: Any, of: int, seed: int) -> None:
    """Write where a name lies, and its hash as one of the kind `of`."""
    found[NAMES + 3 * kind] = begin
    found[NAMES + 3 * kind + 1] = length
    if length >= 0:
        found[NAMES + 3 * kind + 2] = hash_of(body, begin, length, of, seed)


@inner_kernel
def find(
    body: Array, count: int, seed: int, bits: Array, real: Array, fields: Array, ids: Array
) -> int:
    """Write what `count` records say, (count, FIELDS), and where the ids of events lie, (count, 3):
    begin, length and the event's place. Return how many ids; -1 where the batch must be left to
    Python. `bits` and `real` are the same number's memory."""
    size = body.shape[0] - PAD
    at = names = 0
    for row in range(count):
        found = fields[row]
        found[ODD], found[QUANTITY], found[WORTH], found[DWELL], found[POSITION] = (
            0, 1, MISSING, -1, -1,
        )  # fmt: skip
        found[BEGIN] = at
        left = np.int64(body[at]) & 15
        if body[at] == 0xDE:
            left = number(body, at + 1, 2)
            at += 2
        elif body[at] >> 4 != 8:
            return -1
        at += 1
        record = type_at = user_at = session_at = item_at = np.int64(0)
        country_at = device_at = host_at = np.int64(0)
        type_size = user_size = session_size = item_size = np.int64(-1)
        country_size = device_size = host_size = np.int64(-1)
        odd = timed = stocked = asked = False
        inside = np.int64(0)  # fields that are left of the context
        while left + inside > 0:
            nested = inside > 0
            if nested:
                inside -= 1
            else:
                left -= 1
            begin, length = text(body, at)
            key = word(body, begin, length) if length <= 8 else 0
            at = begin + length
            if length <= 0 or at >= size or (record == 0 and key != W_KIND):
                return -1
            begin, length = text(body, at)
            value, whole = integer(body, at)
            if begin + length > size:
                return -1
            if key == W_CONTEXT and record == W_EVENT and body[at] >> 4 == 8:
                inside = np.int64(body[at]) & 15
                at += 1
                continue
            if key == W_KIND:
                record = word(body, begin, length)
            elif nested:
                if key == W_COUNTRY:
                    country_at, country_size = begin, length
                elif key == W_DEVICE:
                    device_at, device_size = begin, length
                elif key == W_REFERRER and length > 0:
                    host_at, host_size = host_of(body, begin, length)
                    odd |= host_size == 0
            elif record == W_EVENT and length >= 0:
                if key == W_TYPE:
                    type_at, type_size = begin, length
                elif key == W_ITEM:
                    item_at, item_size = begin, length
                elif key == W_USER:
                    user_at, user_size = begin, length
                elif key == W_SESSION:
                    session_at, session_size = begin, length
                elif key == W_QUERY:
                    asked = length > 0
                elif key == W_ID:
                    ids[names, 0], ids[names, 1], ids[names, 2] = begin, length, row
                    names += 1
            elif record == W_EVENT and whole:
                if key == W_TIME:
                    found[TIME], timed = value, True
                elif key == W_QUANTITY:
                    found[QUANTITY] = value
                elif key == W_DWELL:
                    found[DWELL] = value
                elif key == W_POSITION:
                    found[POSITION] = value
                odd |= key == W_VALUE
            elif record == W_EVENT and key == W_VALUE:
                bits[0] = number(body, at + 1, 8)
                found[WORTH] = np.int64(np.rint(real[0] * 100))
                odd |= body[at] != 0xCB
            elif record == W_SIGNAL:
                if key == W_ITEM:
                    item_at, item_size = begin, length
                elif key == W_STOCK and (whole or body[at] == 0xC0):
                    found[QUANTITY], stocked = value if whole else -1, True
                else:
                    odd |= key != W_CURRENCY
            elif key == W_ID:
                item_at, item_size = begin, length
            at = begin + length if length >= 0 else behind(body, at)
            if at > size:
                return -1
        found[END] = at
        found[OWNER] = SESSION
        if record == W_EVENT:
            found[RECORD] = EVENT
            odd |= not timed or (asked and word(body, type_at, type_size) == W_SEARCH)
            if session_size < 0:
                found[OWNER], session_at, session_size = OWN, user_at, user_size
            elif session_size > 0 and body[session_at] == 0:
                found[OWNER], session_at, session_size = OWN, session_at + 1, session_size - 1
            if session_size < 0:
                return -1
        elif record == W_SIGNAL:
            found[RECORD] = FACT if odd or not stocked else STOCK
        elif record in (W_ITEM, W_PATCH, W_DELETE):
            found[RECORD] = FACT
        else:
            return -1
        found[ODD] = odd
        note(found, TYPE, body, type_at, type_size, TYPE, seed)
        note(found, ITEM, body, item_at, item_size, ITEM, seed)
        note(found, USER, body, user_at, user_size, USER, seed)
        note(found, SESSION, body, session_at, session_size, found[OWNER], seed)
        note(found, COUNTRY, body, country_at, country_size, COUNTRY, seed)
        note(found, DEVICE, body, device_at, device_size, DEVICE, seed)
        note(found, REFERRER, body, host_at, host_size, REFERRER, seed)
    return names if at == size else -1


@inlined_kernel
def slot_in(slots: Array, arena: Array, body: Array, found: Array, kind: int, of: int) -> Any:
    """Return the slot of a name of a record, as one of the kind `of`; the free one where it would
    be."""
    at = NAMES + 3 * kind
    return place(slots, arena, body, found[at], found[at + 1], of, found[at + 2])


@inner_kernel
def look_up(
    body: Array, fields: Array, slots: Array, arena: Array, used: Array, full: bool, coming: Array,
    operations: Array, fresh: Array, entered: Array,
) -> int:  # fmt: skip
    """Write the operations of records that `find` has found, (MOST n, WIDTH), and where names lie
    that are new, (4, n, 3): kind, begin and length of each of a kind, and how many, (4,). `coming`,
    (4, n), are the rows that they get; `full` says that new referrers are row 0. Return how many
    operations. In `fields` rows take the place of hashes: 0 of no name, -1 of one that is not in
    the table."""
    rows = 0
    for at in range(fields.shape[0]):
        if at + 2 * AHEAD < fields.shape[0]:
            for kind in NEW:
                expect(slots, fields[at + 2 * AHEAD, ROWS + 3 * kind])
                expect_text(slots, arena, fields[at + AHEAD, ROWS + 3 * kind])
        found = fields[at]
        if found[RECORD] == SEEN:
            continue
        for kind in NEW:
            begin, length = found[NAMES + 3 * kind], found[NAMES + 3 * kind + 1]
            row = np.int64(0)
            if length >= 0:
                of = found[OWNER] if kind == SESSION else kind
                slot = slot_in(slots, arena, body, found, kind, of)
                if slots[slot, ROW] == 0:
                    new = fresh[kind, entered[kind]]
                    new[0], new[1], new[2] = of, begin, length
                    row, hashed = coming[kind, entered[kind]], found[ROWS + 3 * kind]
                    enter(slots, arena, used, slot, body, begin, length, of, hashed, row)
                    entered[kind] += 1
                    operations[rows] = 0
                    operations[rows, 0], operations[rows, PLACES[kind]] = BEGINS[kind], row
                    rows += 1
                row = slots[slot, ROW]
            found[ROWS + 3 * kind] = row
        item, user, session = (
            found[ROWS + 3 * ITEM],
            found[ROWS + 3 * USER],
            found[ROWS + 3 * SESSION],
        )
        operation = operations[rows]
        operation[:] = 0
        rows += 1
        if found[RECORD] == STOCK:
            operation[0], operation[1], operation[6] = fold.STOCK, item, found[QUANTITY]
            continue
        operation[0], operation[1] = LEFT, at
        if found[RECORD] == FACT or found[ODD]:
            continue
        for kind in KNOWN:
            row = np.int64(0)
            if found[NAMES + 3 * kind + 1] >= 0:
                row = slots[slot_in(slots, arena, body, found, kind, kind), ROW]
                row = row if row else np.int64(-1)
            found[ROWS + 3 * kind] = row
        kind, country, device = (
            found[ROWS + 3 * TYPE],
            found[ROWS + 3 * COUNTRY],
            found[ROWS + 3 * DEVICE],
        )
        referrer = found[ROWS + 3 * REFERRER]
        if country < 0 or device < 0 or (referrer < 0 and not full):
            continue
        if referrer != 0:
            operation[0], operation[1], operation[2] = fold.REFERRER, 0, session
            operation[6] = max(referrer, 0)
            operation = operations[rows]
            rows += 1
        operation[0] = kind - 1 if kind > 0 else fold.OTHER
        operation[1], operation[2], operation[3], operation[4] = item, session, user, country
        operation[5], operation[6] = found[TIME], found[QUANTITY]
        operation[7], operation[8] = found[WORTH], found[DWELL]
        operation[9], operation[10] = found[POSITION], device
    return rows


@kernel
def texts(body: Array, spans: Array, out: Array) -> int:
    """Write names, (n, 3), each its kind, begin and length, as a MessagePack array of texts; return
    its size."""
    out[0] = 0xDD
    size = 1
    for byte in range(4):
        out[size] = spans.shape[0] >> (24 - 8 * byte) & 255
        size += 1
    for at in range(spans.shape[0]):
        own, begin, length = spans[at, 0] == OWN, spans[at, 1], spans[at, 2]
        out[size] = 0xDB
        for byte in range(4):
            out[size + 1 + byte] = length + own >> (24 - 8 * byte) & 255
        size += 5
        if own:
            out[size] = 0
            size += 1
        for byte in range(length):
            out[size + byte] = body[begin + byte]
        size += length
    return size


class Scanner:
    """Names the records of batches one after another, for whoever reads much of a log.

    `seed` is of the table's hashes: nobody who chooses ids should know it.
    """

    def __init__(self, state: "State", seed: int) -> None:
        self._state = state
        self._seed = seed
        self._decode = msgspec.msgpack.Decoder(list[Record]).decode
        self._names = msgspec.msgpack.Decoder(list[str]).decode
        self._bits = np.zeros(1, np.int64)
        self._real = self._bits.view(np.float64)
        self._begin()

    def name(self, batch: bytes, count: int) -> NDArray[np.int64]:
        """Return the operations of `count` records, MessagePack one behind the other, as
        `State.name` does. Raises `msgspec.DecodeError` where they are no records."""
        state = self._state
        if state.held.active or not state.is_room(count):
            return state.name(self._decode(_array(count, batch)))
        body = np.frombuffer(batch + bytes(PAD), np.uint8)
        fields = np.empty((count, FIELDS), np.int64)
        ids = np.empty((count, 3), np.int64)
        identified = find(body, count, self._seed, self._bits, self._real, fields, ids)
        if identified < 0:
            return state.name(self._decode(_array(count, batch)))
        is_new = state.seen.add_packed(body, ids[:identified])
        fields[ids[:identified][~is_new, 2], RECORD] = SEEN
        self._follow()
        operations = self._name(body, fields)
        left = np.flatnonzero(operations[:, 0] == LEFT)
        return self._complete(batch, fields, operations, left) if len(left) else operations

    def _name(self, body: NDArray[np.uint8], fields: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return operations, and let the state know the names that are new."""
        state, table, count = self._state, self._table, len(fields)
        table.make_room(3 * count, len(body))
        coming = np.zeros((len(BEGINS), count), np.int64)
        for kind in NEW:
            coming[kind] = self._kinds[kind].coming(count)
        operations = np.empty((MOST * count, WIDTH), np.int64)
        fresh = np.empty((len(BEGINS), count, 3), np.int64)
        entered = np.zeros(len(BEGINS), np.int64)
        full = len(state.referrers) >= REFERRERS
        rows = look_up(
            body, fields, table.slots, table.arena, table.used, full, coming, operations, fresh,
            entered,
        )  # fmt: skip
        for kind in NEW:
            self._kinds[kind].enter_all(self._texts(body, fresh[kind, : entered[kind]]))
            self._marks[kind] = self._kinds[kind].mark()
        return operations[:rows]

    def _complete(
        self,
        batch: bytes,
        fields: NDArray[np.int64],
        operations: NDArray[np.int64],
        left: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Put the operations of records that were left in their places."""
        places = fields[operations[left, 1], BEGIN : END + 1].tolist()
        elements = b"".join([batch[begin:end] for begin, end in places])
        records = self._decode(_array(len(left), elements))
        rows, widths = operations_each(self._state, records)
        is_left = operations[:, 0] == LEFT
        counts = np.ones(len(operations), np.int64)
        counts[left] = widths
        from_left = np.repeat(is_left, counts)
        whole = np.empty((len(from_left), WIDTH), np.int64)
        whole[from_left] = rows
        whole[~from_left] = operations[~is_left]
        return whole

    def _texts(self, body: NDArray[np.uint8], spans: NDArray[np.int64]) -> list[str]:
        """Return the names that lie at `spans`."""
        out = np.empty(5 + 6 * len(spans) + int(spans[:, 2].sum()), np.uint8)
        return self._names(out[: texts(body, spans, out)].data)

    def _follow(self) -> None:
        """Let the table know what became of names since it was last told."""
        for kind, names in self._kinds.items():
            change = names.since(self._marks[kind])
            if change is None:
                self._begin()
                return
            self._tell(kind, change.left, change.entered)

    def _begin(self) -> None:
        """Fill a table with the names that the state has."""
        state = self._state
        self._table = Table(self._seed)
        self._kinds: dict[int, Names] = {
            ITEM: state.items,
            USER: state.users,
            SESSION: state.sessions,
            COUNTRY: state.countries,
            DEVICE: state.devices,
            REFERRER: state.referrers,
        }
        self._marks: dict[int, Mark] = {}
        self._table.learn(TYPE, {name: kind + 1 for name, kind in state.kinds.items()})
        for kind, names in self._kinds.items():
            self._tell(kind, (), names.rows)

    def _tell(self, kind: int, left: Collection[str], entered: Mapping[str, int]) -> None:
        """Let the table know whose rows are another's now, and who entered."""
        private = OWN if kind == SESSION else None
        self._table.forget(kind, left, private)
        self._table.learn(kind, entered, private)
        self._marks[kind] = self._kinds[kind].mark()


def _array(count: int, elements: bytes) -> bytes:
    """Return MessagePack elements as one array."""
    return b"\xdd" + count.to_bytes(4, "big") + elements
