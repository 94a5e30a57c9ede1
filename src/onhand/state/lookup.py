"""A table of names for compiled code: which row each has, without the interpreter lock.

Open addressing with linear probing; a name is found by its hash, its length and kind, and all its
bytes, which lie in an arena. Nobody who chooses names should know the hashes' seed. The state's
dictionaries are the truth; the table follows them.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, inlined_kernel, inner_kernel, kernel, prefetch

__all__ = [
    "PAD",
    "Table",
    "enter",
    "expect",
    "hash_of",
    "is_same",
    "number",
    "place",
    "text",
    "word",
]

PAD: Final = 16
"""Bytes behind a text, so that a number can be read wherever one begins."""

_MIX: Final = -7046029254386353131  # odd, half of its bits set: 2**64 over the golden ratio

HASH: Final = 0
ROW: Final = 1
START: Final = 2
TAG: Final = 3
"""A slot of the table: hash, row, where the name lies, its length and kind; row 0 is none."""
GONE: Final = -1
"""The tag of a name that was given up."""


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
def word(body: Array, at: Any, length: Any) -> Any:
    """Return the first eight bytes of a text as a number, as `_word` does."""
    value = np.int64(0)
    for byte in range(8):
        value |= np.int64(body[at + byte]) << (8 * byte)
    return value if length >= 8 else value & ((1 << 8 * length) - 1)


@inner_kernel
def hash_of(body: Array, at: Any, length: Any, kind: int, seed: int) -> Any:
    """Return the hash of a name of a kind."""
    hashed = np.int64(seed) + kind
    for byte in range(0, length, 8):
        hashed = (hashed ^ word(body, at + byte, length - byte)) * _MIX
        hashed ^= hashed >> 29
    return hashed


@inlined_kernel
def is_same(arena: Array, start: Any, body: Array, at: Any, length: Any) -> bool:
    """Return whether two names of one length are the same bytes."""
    byte = 0
    while byte < length and (
        word(arena, start + byte, length - byte) == word(body, at + byte, length - byte)
    ):
        byte += 8
    return byte >= length


@inlined_kernel
def place(
    slots: Array, arena: Array, body: Array, at: Any, length: Any, kind: int, hashed: Any
) -> Any:
    """Return the slot of a name, or the free one where it would be."""
    tag = length << 8 | kind
    slot = hashed & (slots.shape[0] - 1)
    while slots[slot, ROW] != 0:
        if (
            slots[slot, HASH] == hashed
            and slots[slot, TAG] == tag
            and is_same(arena, slots[slot, START], body, at, length)
        ):
            break
        slot = (slot + 1) & (slots.shape[0] - 1)
    return slot


@inlined_kernel
def enter(
    slots: Array, arena: Array, used: Array, slot: Any, body: Array, at: Any, length: Any,
    kind: int, hashed: Any, row: Any,
) -> None:  # fmt: skip
    """Put a name into its free slot. `used` counts slots, bytes of `arena`, and those of both that
    were given up."""
    slots[slot, HASH] = hashed
    slots[slot, ROW] = row
    slots[slot, START] = used[1]
    slots[slot, TAG] = length << 8 | kind
    for byte in range(length):
        arena[used[1] + byte] = body[at + byte]
    used[0] += 1
    used[1] += length


@inlined_kernel
def expect(slots: Array, hashed: Any) -> None:
    """Ask memory for the slot of a name that is looked up soon."""
    prefetch(slots, hashed & (slots.shape[0] - 1), 0)


@inlined_kernel
def expect_text(slots: Array, arena: Array, hashed: Any) -> None:
    """Ask memory for the text of a name whose slot is there already."""
    prefetch(arena, slots[hashed & (slots.shape[0] - 1), START], 0)


@inlined_kernel
def name_at(body: Array, at: Any, kind: int, private: int) -> Any:
    """Return begin, length and kind of the name that is the MessagePack text at `at`."""
    begin, length = text(body, at)
    if private >= 0 and length > 0 and body[begin] == 0:
        return begin + 1, length - 1, private
    return begin, length, kind


@kernel
def _learn(
    slots: Array, arena: Array, used: Array, body: Array, kind: int, private: int, seed: int,
    rows: Array,
) -> None:  # fmt: skip
    at = 0
    for row in rows:
        begin, length, of = name_at(body, at, kind, private)
        hashed = hash_of(body, begin, length, of, seed)
        slot = place(slots, arena, body, begin, length, of, hashed)
        if slots[slot, ROW] == 0:
            enter(slots, arena, used, slot, body, begin, length, of, hashed, row)
        at = begin + length


@kernel
def _forget(
    slots: Array, arena: Array, used: Array, body: Array, kind: int, private: int, seed: int,
    count: int,
) -> None:  # fmt: skip
    at = 0
    for _ in range(count):
        begin, length, of = name_at(body, at, kind, private)
        slot = place(slots, arena, body, begin, length, of, hash_of(body, begin, length, of, seed))
        if slots[slot, ROW] != 0:
            used[2] += 1
            used[3] += length
            slots[slot, TAG] = GONE
        at = begin + length


@kernel
def _move(slots: Array, arena: Array, used: Array, new_slots: Array, new_arena: Array) -> None:
    used[:] = 0
    for slot in range(slots.shape[0]):
        if slots[slot, ROW] != 0 and slots[slot, TAG] != GONE:
            free = slots[slot, HASH] & (new_slots.shape[0] - 1)
            while new_slots[free, ROW] != 0:
                free = (free + 1) & (new_slots.shape[0] - 1)
            new_slots[free] = slots[slot]
            new_slots[free, START] = used[1]
            start, length = slots[slot, START], slots[slot, TAG] >> 8
            for byte in range(length):
                new_arena[used[1] + byte] = arena[start + byte]
            used[0] += 1
            used[1] += length


class Table:
    """Rows by kind and name. Of the kind `private` are names of another that begin with a null
    byte, without it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.slots = np.zeros((1 << 16, 4), np.int64)
        self.arena = np.zeros(1 << 20, np.uint8)
        self.used = np.zeros(4, np.int64)

    def learn(self, kind: int, names: Mapping[str, int], private: int | None = None) -> None:
        """Take names of a kind and their rows, those that are not there yet."""
        if names:
            body = _packed(names)
            self.make_room(len(names), len(body))
            rows = np.fromiter(names.values(), np.int64, len(names))
            _learn(self.slots, self.arena, self.used, body, kind, _kind(private), self.seed, rows)

    def forget(self, kind: int, names: Collection[str], private: int | None = None) -> None:
        """Give names of a kind up."""
        if names:
            body, of = _packed(names), _kind(private)
            _forget(self.slots, self.arena, self.used, body, kind, of, self.seed, len(names))

    def make_room(self, names: int, size: int) -> None:
        """Make the table fit for so many names more, of so many bytes."""
        slots, bytes_, gone, gone_bytes = self.used.tolist()
        if 2 * (slots + names) > len(self.slots) or bytes_ + size + PAD > len(self.arena):
            before = self.slots, self.arena
            self.slots = np.zeros((1 << (4 * (slots - gone + names)).bit_length(), 4), np.int64)
            self.arena = np.zeros(2 * (bytes_ - gone_bytes + size + PAD), np.uint8)
            _move(*before, self.used, self.slots, self.arena)


def _packed(names: Collection[str]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(map(msgspec.msgpack.encode, names)) + bytes(PAD), np.uint8)


def _kind(private: int | None) -> int:
    return -1 if private is None else private
