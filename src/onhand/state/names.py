"""Names and rows: ids are strings outside and dense row numbers inside. Row 0 is nobody."""

from collections.abc import Collection, Iterable, Iterator, MutableMapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Ids", "Mark", "Names", "Paths", "Rows", "Spelled", "Visitors"]

_T = TypeVar("_T")
_PARTS: Final = 128

_encode = msgspec.json.Encoder().encode


class Mark(NamedTuple):
    """How far somebody has followed names: how many rows, which of them were free, and how often
    visitors had left."""

    rows: int
    free: Sequence[int] = ()
    departures: int = 0


class Change(NamedTuple):
    """Who left and who entered."""

    left: Collection[str]
    entered: dict[str, int]


class Rows(MutableMapping[str, int]):
    """Rows by name, in many small dicts: the larger one is, the longer no page is answered while
    it grows."""

    def __init__(self) -> None:
        self._parts: list[dict[str, int]] = [{} for _ in range(_PARTS)]

    @overload
    def get(self, name: str, default: None = None) -> int | None: ...
    @overload
    def get(self, name: str, default: int | _T) -> int | _T: ...
    def get(self, name: str, default: Any = None) -> Any:
        """Return the row of `name`."""
        return self._parts[hash(name) % _PARTS].get(name, default)

    def __getitem__(self, name: str) -> int:
        return self._parts[hash(name) % _PARTS][name]

    def __setitem__(self, name: str, row: int) -> None:
        self._parts[hash(name) % _PARTS][name] = row

    def __delitem__(self, name: str) -> None:
        del self._parts[hash(name) % _PARTS][name]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))


class Names:
    """Rows for names that never leave: items, countries."""

    def __init__(
        self, names: Iterable[str] = ("",), rows: MutableMapping[str, int] | None = None
    ) -> None:
        self.names = list(names)
        self.rows: MutableMapping[str, int] = {} if rows is None else rows
        self.rows.update((name, row) for row, name in enumerate(self.names) if row)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: str) -> int:
        """Return the row of `name`, a new one when it has none."""
        row = self.rows.get(name)
        if row is None:
            row = self.rows[name] = len(self.names)
            self.names.append(name)
        return row

    def coming(self, count: int) -> NDArray[np.int64]:
        """Return the rows that the next `count` new names get."""
        return np.arange(len(self.names), len(self.names) + count)

    def enter_all(self, names: Sequence[str]) -> None:
        """Give new names the rows that are `coming`."""
        self.rows.update(zip(names, self.coming(len(names)).tolist(), strict=True))
        self.names += names

    def mark(self) -> Mark:
        """Return how far the names are."""
        return Mark(len(self.names))

    def since(self, mark: Mark) -> Change | None:
        """Return what became of names behind a mark; None where that is not known any more."""
        rows = range(mark.rows, len(self.names))
        return Change((), {self.names[row]: row for row in rows})


class Spelled(NamedTuple):
    """Names as JSON texts, one behind the other: that of row `r` is from `ends[r]` to
    `ends[r + 1]` in `body`."""

    ends: NDArray[np.int64]
    body: NDArray[np.uint8]


class Ids(Names):
    """Rows for ids that compiled code writes into answers: those of items."""

    def __init__(self, names: Iterable[str] = ("",)) -> None:
        super().__init__(names)
        self._spelled = Spelled(np.zeros(1, np.int64), np.zeros(0, np.uint8))
        self._known = 0

    def spelled(self) -> Spelled:
        """Return the ids as JSON, in the same memory as long as there is room for new ones."""
        if self._known < len(self.names):
            self._spell()
        return self._spelled

    def _spell(self) -> None:
        begin, count = self._known, len(self.names)
        new = [_encode(name) for name in self.names[begin:]]
        ends, body = self._spelled
        start = int(ends[begin])
        end = start + sum(map(len, new))
        if count >= len(ends) or end > len(body):
            ends, body = np.zeros(2 * count + 1, np.int64), np.zeros(2 * end, np.uint8)
            ends[: begin + 1], body[:start] = (
                self._spelled.ends[: begin + 1],
                self._spelled.body[:start],
            )
            self._spelled = Spelled(ends, body)
        ends[begin + 1 : count + 1] = start + np.cumsum([len(text) for text in new])
        body[start:end] = np.frombuffer(b"".join(new), np.uint8)
        self._known = count


class Paths(Names):
    """Rows for paths (`home/kitchen`); `below` holds the rows at and under each path."""

    def __init__(self, names: Iterable[str] = ("",)) -> None:
        super().__init__(names)
        self.below: dict[str, list[int]] = {}
        for name, row in self.rows.items():
            self._enter_below(name, row)

    def row(self, name: str) -> int:
        """Return the row of `name`, a new one when it has none."""
        before = len(self.names)
        row = super().row(name)
        if row == before:
            self._enter_below(name, row)
        return row

    def _enter_below(self, name: str, row: int) -> None:
        levels = name.split("/")
        for depth in range(1, len(levels) + 1):
            self.below.setdefault("/".join(levels[:depth]), []).append(row)


class Visitors(Names):
    """Rows for at most `capacity` - 1 users or sessions; the longest silent make room.

    `free` holds rows whose visitors have left.
    """

    def __init__(
        self, capacity: int, names: Iterable[str] = ("",), free: Iterable[int] = ()
    ) -> None:
        super().__init__(names, Rows())
        self.capacity = capacity
        self.departures = 0
        """How often visitors had to leave."""
        self.left: dict[int, str] = {}
        """Those who left last, by their rows."""
        self.free = list(free)
        for row in self.free:
            del self.rows[self.names[row]]

    @property
    def room(self) -> int:
        """How many new visitors can enter before somebody has to leave."""
        return len(self.free) + max(0, self.capacity - len(self.names))

    @property
    def full(self) -> bool:
        """Whether somebody has to leave before a new visitor can enter."""
        return self.room == 0

    def enter(self, name: str) -> int:
        """Return a row for a new visitor; what was in it has to be cleared."""
        if not self.free:
            return self.row(name)
        row = self.free.pop()
        self.names[row] = name
        self.rows[name] = row
        return row

    def coming(self, count: int) -> NDArray[np.int64]:
        """Return the rows that the next `count` new names get."""
        free = self.free[: -count - 1 : -1]
        return np.append(np.array(free, np.int64), super().coming(count - len(free)))

    def enter_all(self, names: Sequence[str]) -> None:
        """Give new names the rows that are `coming`."""
        entering = min(len(names), len(self.free))
        for name in names[:entering]:
            self.enter(name)
        super().enter_all(names[entering:])

    def mark(self) -> Mark:
        """Return how far the names are."""
        return Mark(len(self.names), tuple(self.free), self.departures)

    def since(self, mark: Mark) -> Change | None:
        """Return what became of names behind a mark; None where that is not known any more."""
        if self.departures > mark.departures + 1:
            return None
        rows = [*range(mark.rows, len(self.names))]
        left: dict[int, str] = {}
        if self.departures > mark.departures:
            left = self.left
        if left or len(self.free) < len(mark.free):
            rows += [*mark.free, *left]
        names = self.names
        return Change(
            left.values(), {names[row]: row for row in rows if self.rows.get(names[row]) == row}
        )

    def make_room(self, touched: NDArray[Any]) -> None:
        """Let one in 64 leave, those with the lowest `touched`, (capacity,): when each row was
        last touched, in any unit that grows."""
        self.departures += 1
        leaving = max(1, self.capacity // 64)
        when = touched[1 : len(self.names)]
        among = np.flatnonzero(when <= np.partition(when, leaving - 1)[leaving - 1])
        oldest = among[np.argsort(when[among], kind="stable")[:leaving]] + 1
        self.free = oldest[::-1].tolist()
        self.left = {row: self.names[row] for row in self.free}
        for name in self.left.values():
            del self.rows[name]
