"""The heaviest few of many, in fixed memory.

A row of slots (member, weight) keeps the heavy hitters of a weighted stream by the Space-Saving
rule (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
streams", ICDT 2005): a new member of a full row takes the lightest slot and its weight. Anything
heavier than total / slots is certain to be there. Used for the items that follow an item, those
bought with it, and those popular in a country. Member 0 is an empty slot.
"""

from numpy.typing import NDArray

from onhand.kernel import kernel

__all__ = ["add"]


@kernel
def add(members: NDArray, weights: NDArray, member: int, weight: int) -> None:
    """Add `weight` to `member` in one row: `members` (slots,) int32, `weights` (slots,) int64."""
    lightest = 0
    for slot in range(members.shape[0]):
        if members[slot] == member:
            weights[slot] += weight
            return
        if members[slot] == 0:
            members[slot] = member
            weights[slot] = weight
            return
        if weights[slot] < weights[lightest]:
            lightest = slot
    members[lightest] = member
    weights[lightest] += weight
