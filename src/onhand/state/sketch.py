"""The heaviest few of many, in fixed memory.

A row of slots (member, weight), heaviest first, keeps the heavy hitters of a weighted stream by
the Space-Saving rule (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k
elements in data streams", ICDT 2005): a new member of a full row takes the lightest slot and its
weight. Anything heavier than total / slots is certain to be there. Used for the items that follow
an item, those bought with it, and those popular in a country. Member 0 ends a row.
"""

from typing import Final

from onhand.kernel import Array, inner_kernel

__all__ = ["add", "top"]

BLOCK: Final = 16
"""Slots that are compared at once, by the processor's wide registers."""


@inner_kernel
def find(members: Array, member: int) -> int:
    """Return the slot of `member`, else the first that is free, else the last."""
    last = members.shape[0] - 1
    slot = 0
    while slot + BLOCK <= last:
        hits = 0
        for at in range(BLOCK):
            hits += (members[slot + at] == member) | (members[slot + at] == 0)
        if hits:
            break
        slot += BLOCK
    while slot < last and members[slot] != member and members[slot] != 0:
        slot += 1
    return slot


@inner_kernel
def add(members: Array, weights: Array, member: int, weight: int) -> None:
    """Add `weight` to `member` in one row: `members` (slots,) int32, `weights` (slots,) int64."""
    slot = find(members, member)
    weight += weights[slot]
    while slot > 0 and weights[slot - 1] < weight:
        members[slot] = members[slot - 1]
        weights[slot] = weights[slot - 1]
        slot -= 1
    members[slot] = member
    weights[slot] = weight


@inner_kernel
def top(members: Array, weights: Array, member: int, weight: int) -> None:
    """Set the weight of `member`, which has grown, in a row of the heaviest of many: exact, as
    long as every growth of every member comes here."""
    if weight <= weights[members.shape[0] - 1]:
        return
    slot = find(members, member)
    while slot > 0 and weights[slot - 1] < weight:
        members[slot] = members[slot - 1]
        weights[slot] = weights[slot - 1]
        slot -= 1
    members[slot] = member
    weights[slot] = weight
