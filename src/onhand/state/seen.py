"""Event ids that have been folded, so that an event sent twice counts once.

Ids are kept in two generations. When the younger one is full it becomes the older, and the oldest
ids are forgotten: at least `generation` ids, at most twice as many, are remembered.
"""

from collections.abc import Sequence

__all__ = ["Seen"]


class Seen:
    """A bounded set of ids in order of arrival."""

    def __init__(
        self,
        generation: int,
        young: dict[str, None] | None = None,
        old: dict[str, None] | None = None,
    ) -> None:
        self.generation = generation
        self.young = young or {}
        self.old = old or {}

    def __contains__(self, id: str) -> bool:
        return id in self.young or id in self.old

    def add(self, id: str) -> bool:
        """Remember `id`; return whether it was new."""
        young = self.young
        if id in self.old:
            return False
        before = len(young)
        young[id] = None
        if len(young) == before:
            return False
        if before + 1 >= self.generation:
            self.old, self.young = young, {}
        return True

    def add_new(self, ids: Sequence[str]) -> bool:
        """Remember `ids` if all are new; return whether that was so."""
        young = self.young
        before = len(young)
        if not self.old.keys().isdisjoint(ids):
            return False
        if before + len(ids) >= self.generation:
            whole = set(ids)
            new = len(whole) == len(ids) and young.keys().isdisjoint(whole)
            return new and all(self.add(id) for id in ids)
        young.update(dict.fromkeys(ids))
        if len(young) == before + len(ids):
            return True
        while len(young) > before:
            young.popitem()
        return False
