"""The catalogue: what the shop says about its items, as text. Live facts are in the columns."""

import msgspec
from msgspec import UNSET

from onhand.contracts.records import Item, ItemPatch

__all__ = ["Catalogue"]


class Catalogue:
    """The `Item` records by row. Price and stock are left out of them: the live ones hold."""

    def __init__(self, entries: dict[int, Item] | None = None) -> None:
        self.entries = entries or {}

    def put(self, row: int, item: Item) -> None:
        """Take a whole entry; one that does not say when it was created keeps what was known."""
        before = self.entries.get(row)
        created = before.created if item.created is None and before else item.created
        self.entries[row] = msgspec.structs.replace(item, price=UNSET, stock=UNSET, created=created)

    def patch(self, row: int, patch: ItemPatch) -> None:
        """Change the fields that `patch` names of an entry that is there."""
        changes = {
            field: value
            for field in ("title", "category", "brand", "tags", "text", "created", "attributes")
            if (value := getattr(patch, field)) is not UNSET
        }
        self.entries[row] = msgspec.structs.replace(self.entries[row], **changes)

    def drop(self, row: int) -> None:
        """Forget an entry."""
        self.entries.pop(row, None)
