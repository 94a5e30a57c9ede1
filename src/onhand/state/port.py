"""The port: whoever else folds the same operations, and rests in the same checkpoint."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from numpy.typing import NDArray

__all__ = ["AGGREGATES", "Aggregates"]

AGGREGATES: Final = "aggregates."
"""What the names of their arrays begin with."""


class Aggregates(Protocol):
    """Counts that the state drives and does not know. Every operation comes here once, in log
    order, and the state itself folds it before or meanwhile."""

    @property
    def schema(self) -> str:
        """What the arrays mean: those kept under another schema cannot be restored."""
        ...

    @property
    def kinds(self) -> Mapping[str, int]:
        """The operations of event types that only these counts tell apart, from `fold.CUSTOM`."""
        ...

    def fold(self, operations: NDArray[Any]) -> None:
        """Apply operations, (n, 11) int64, in order."""
        ...

    def used(self, rows: Mapping[str, int]) -> dict[str, NDArray[Any]]:
        """Return the arrays up to the used `rows` of each of the state's tables. It may be asked
        for their sizes while a fold runs."""
        ...

    def columns(self, rows: Mapping[str, int]) -> list[tuple[NDArray[Any], int]]:
        """Return each array whole, and how many of its rows are used; of hashed ones all are. A
        fold may run meanwhile."""
        ...

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `used` returned, out of the arrays of a checkpoint."""
        ...
