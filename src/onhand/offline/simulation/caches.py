"""The usual stack beside it: the same lists, behind a cache with a time to live.

Such a stack computes the list for a page once and shows it to everybody who asks for the same
page until it has aged. Here the key is the slot, the product whose page it is, and the visitor's
country; the list is the very answer that the server gave to whoever came first.
"""

from collections.abc import Hashable, Sequence

__all__ = ["Cache"]


class Cache:
    """Lists by key, each shown for `ttl_s` seconds after it was asked for."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._kept: dict[Hashable, tuple[float, Sequence[str]]] = {}

    def show(self, key: Hashable, asked_s: float, fresh: Sequence[str]) -> Sequence[str]:
        """What the cache shows at `asked_s`; a list that is missing or too old gives way to
        `fresh`."""
        kept = self._kept.get(key)
        if kept is None or asked_s - kept[0] > self.ttl_s:
            kept = self._kept[key] = (asked_s, fresh)
        return kept[1]
