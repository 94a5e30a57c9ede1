"""Names and rows: ids are strings outside and dense row numbers inside. Row 0 is nobody."""

from collections.abc import Iterable

__all__ = ["Names", "Visitors"]


class Names:
    """Rows for names that never leave: items, countries."""

    def __init__(self, names: Iterable[str] = ("",)) -> None:
        self.names = list(names)
        self.rows = {name: row for row, name in enumerate(self.names) if row}

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: str) -> int:
        """Return the row of `name`, a new one when it has none."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = len(self.names)
            self.names.append(name)
        return row


class Visitors:
    """Rows for at most `capacity` - 1 users or sessions; the longest silent makes room.

    `rows` is ordered by last touch, which is the order in which they leave: whoever touches one
    takes it out and puts it back.
    """

    def __init__(self, capacity: int, rows: dict[str, int] | None = None) -> None:
        self.capacity = capacity
        self.rows = rows or {}

    def __len__(self) -> int:
        return len(self.rows) + 1

    def enter(self, name: str) -> int:
        """Return a row for a name that has none; what was in the row has to be cleared."""
        if len(self.rows) + 1 < self.capacity:
            row = len(self.rows) + 1
        else:
            row = self.rows.pop(next(iter(self.rows)))
        self.rows[name] = row
        return row
