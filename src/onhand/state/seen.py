"""Event ids that have been folded, so that an event sent twice counts once.

Ids are kept in two generations. When the younger one is full it becomes the older, and the oldest
ids are forgotten: at least `generation` ids, at most twice as many, are remembered.

A generation is the bytes of its ids, one behind the other in order of arrival, and a table of
slots by their hashes (open addressing, linear probing): the upper half of a slot is that of the
hash, the lower the id's number from 1 on; 0 is free. So a million ids are 40 MB and no objects,
compiled code looks them up without the interpreter lock, and a checkpoint keeps their bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.kernel import Array, entry_kernel, inner_kernel, kernel, prefetch
from onhand.state.lookup import PAD, hash_of, is_same, text

__all__ = ["Seen"]

_SEED: Final = hash("event ids")
"""Drawn with that of Python's own hashes: nobody who chooses ids knows it."""
_BYTES: Final = 40
"""Of an id, with which a generation begins: room is made for longer ones."""
_AHEAD: Final = 8
"""So many ids before its turn, memory is asked for the slots of one."""
_LOW: Final = (1 << 32) - 1


@inner_kernel
def slot_of(
    slots: Array, ends: Array, arena: Array, body: Array, at: Any, length: Any, hashed: Any
) -> Any:
    """Return the slot of an id, or the free one where it would be."""
    slot = hashed & (slots.shape[0] - 1)
    while slots[slot] != 0:
        if (slots[slot] ^ hashed) >> 32 == 0:
            number = slots[slot] & _LOW
            start = ends[number - 1]
            if ends[number] - start == length and is_same(arena, start, body, at, length):
                break
        slot = (slot + 1) & (slots.shape[0] - 1)
    return slot


@entry_kernel
def add(
    body: Array, spans: Array, begin: int, most: int, seed: int,
    slots: Array, ends: Array, arena: Array, used: Array,
    old_slots: Array, old_ends: Array, old_arena: Array, is_new: Array,
) -> Any:  # fmt: skip
    """Add ids, each a row of `spans` that begins with its begin and length, from number `begin` on
    to the younger generation, until that has `most` or its arena is full; say of each whether it is
    new, and return how far this came."""
    count = spans.shape[0]
    hashes = np.empty(count, np.int64)
    for at in range(begin, count):
        hashes[at] = hash_of(body, spans[at, 0], spans[at, 1], 0, seed)
    for at in range(begin, count):
        if at + _AHEAD < count:
            expected = hashes[at + _AHEAD]
            prefetch(slots, expected & (slots.shape[0] - 1), 0)
            prefetch(old_slots, expected & (old_slots.shape[0] - 1), 0)
        start, length, hashed, end = spans[at, 0], spans[at, 1], hashes[at], ends[used[0]]
        if used[0] == most or end + length + PAD > arena.shape[0]:
            return at
        old = slot_of(old_slots, old_ends, old_arena, body, start, length, hashed)
        slot = slot_of(slots, ends, arena, body, start, length, hashed)
        is_new[at] = old_slots[old] == 0 and slots[slot] == 0
        if is_new[at]:
            for byte in range(length):
                arena[end + byte] = body[start + byte]
            used[0] += 1
            ends[used[0]] = end + length
            slots[slot] = (hashed & ~_LOW) | used[0]
    return count


@entry_kernel
def find(
    body: Array, spans: Array, seed: int, slots: Array, ends: Array, arena: Array,
    old_slots: Array, old_ends: Array, old_arena: Array, is_there: Array,
) -> int:  # fmt: skip
    """Say of each id whether it is in a generation; return how many are."""
    known = 0
    for at in range(spans.shape[0]):
        start, length = spans[at, 0], spans[at, 1]
        hashed = hash_of(body, start, length, 0, seed)
        old = slot_of(old_slots, old_ends, old_arena, body, start, length, hashed)
        slot = slot_of(slots, ends, arena, body, start, length, hashed)
        is_there[at] = old_slots[old] != 0 or slots[slot] != 0
        known += is_there[at]
    return known


@kernel
def enter_slots(slots: Array, ends: Array, arena: Array, count: int, seed: int) -> None:
    """Give the first `count` ids of a generation, all different, their slots."""
    for number in range(1, count + 1):
        start = ends[number - 1]
        hashed = hash_of(arena, start, ends[number] - start, 0, seed)
        slot = hashed & (slots.shape[0] - 1)
        while slots[slot] != 0:
            slot = (slot + 1) & (slots.shape[0] - 1)
        slots[slot] = (hashed & ~_LOW) | number


@entry_kernel
def split(body: Array, spans: Array) -> None:
    """Write begin and length of MessagePack texts that lie one behind the other."""
    at = 0
    for row in range(spans.shape[0]):
        spans[row, 0], spans[row, 1] = text(body, at)
        at = spans[row, 0] + spans[row, 1]


class _Generation(NamedTuple):
    """Up to `most` ids, `used[0]` of them taken; `ends` are where each ends in `arena`."""

    slots: NDArray[np.int64]
    ends: NDArray[np.int64]
    arena: NDArray[np.uint8]
    used: NDArray[np.int64]


def _generation(most: int) -> _Generation:
    return _Generation(
        np.zeros(1 << (2 * most).bit_length(), np.int64),
        np.zeros(most + 1, np.int64),
        np.zeros(_BYTES * most + PAD, np.uint8),
        np.zeros(1, np.int64),
    )


class Seen:
    """A bounded set of ids in order of arrival."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._young = _generation(generation)
        self._old = _generation(0)

    def __contains__(self, id: str) -> bool:
        return bool(self.among([id]))

    def among(self, ids: Sequence[str]) -> set[str]:
        """Return those of `ids` that are here."""
        body, spans = _packed(ids)
        is_there = np.empty(len(ids), np.bool_)
        young, old = self._young, self._old
        known = find(
            body, spans, _SEED, young.slots, young.ends, young.arena,
            old.slots, old.ends, old.arena, is_there,
        )  # fmt: skip
        return set(compress(ids, is_there.tolist())) if known else set()

    def add(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Remember ids; return of each whether it was new."""
        return self.add_packed(*_packed(ids))

    def add_packed(self, body: NDArray[np.uint8], spans: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Remember ids that lie in `body`, each a row of `spans` that begins with its begin and
        length; return of each whether it was new."""
        is_new = np.empty(len(spans), np.bool_)
        done = 0
        while done < len(spans):
            young, old = self._young, self._old
            done = add(body, spans, done, self.generation, _SEED, *young, *old[:3], is_new)
            if young.used[0] == self.generation:
                self._old, self._young = young, _generation(self.generation)
            elif done < len(spans):
                arena = np.zeros(2 * len(young.arena), np.uint8)
                arena[: len(young.arena)] = young.arena
                self._young = young._replace(arena=arena)
        return is_new

    def used(self) -> dict[str, NDArray[Any]]:
        """Return every array up to what is used of it, but for slots, which follow."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, (_, ends, arena, used) in (("young", self._young), ("old", self._old)):
            count = int(used[0])
            arrays[f"seen.{name}_ends"] = ends[: count + 1]
            arrays[f"seen.{name}_arena"] = arena[: ends[count]]
        return arrays

    def columns(self) -> Iterable[tuple[NDArray[Any], int]]:
        """Return the arrays that grow whole, and how much of each is used; of slots all are."""
        slots, ends, arena, used = self._young
        count = int(used[0])
        return (slots, len(slots)), (ends, count), (arena, int(ends[count]))

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `used` returned."""
        self._young = self._restored(arrays["seen.young_ends"], arrays["seen.young_arena"])
        if len(arrays["seen.old_ends"]) > 1:
            self._old = self._restored(arrays["seen.old_ends"], arrays["seen.old_arena"])

    def _restored(self, ends: NDArray[np.int64], arena: NDArray[np.uint8]) -> _Generation:
        whole = _generation(self.generation)
        if len(arena) + PAD > len(whole.arena):
            whole = whole._replace(arena=np.zeros(len(arena) + PAD, np.uint8))
        whole.ends[: len(ends)] = ends
        whole.arena[: len(arena)] = arena
        whole.used[0] = len(ends) - 1
        enter_slots(whole.slots, whole.ends, whole.arena, len(ends) - 1, _SEED)
        return whole


def _packed(ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of ids, and where each begins and its length."""
    body = np.frombuffer(b"".join(map(msgspec.msgpack.encode, ids)) + bytes(PAD), np.uint8)
    spans = np.empty((len(ids), 2), np.int64)
    split(body, spans)
    return body, spans
