"""The catalogue: what the shop says about its items, as text. Live facts are in the columns."""

import msgspec
from msgspec import UNSET

from onhand.contracts.records import Attribute, Item, ItemPatch

__all__ = ["Catalogue", "term", "terms_of"]


class Catalogue:
    """The `Item` records by row. Price and stock are left out of them: the live ones hold."""

    def __init__(
        self, entries: dict[int, Item] | None = None, bands: dict[int, int] | None = None
    ) -> None:
        self.entries = entries or {}
        self.bands = bands or {}
        """The band of each item's latest price, for its vector: see `content`."""

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


def term(name: str, value: Attribute) -> str:
    """Return an attribute and its value as one term; a tag is the value of `tags`."""
    if isinstance(value, bool):
        return f"{name}={'true' if value else 'false'}"
    return f"{name}={value if isinstance(value, str) else format(value, 'g')}"


def terms_of(item: Item) -> list[str]:
    """Return what an item's filters may ask for beside its category, brand and price."""
    tags = [term("tags", tag) for tag in item.tags]
    return tags + [term(name, item.attributes[name]) for name in sorted(item.attributes)]
