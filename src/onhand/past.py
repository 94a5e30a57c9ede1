"""The past: the state as it was at an offset, from the nearest checkpoint and the log after it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from onhand.features.set import FeatureSet
from onhand.log.port import Batch, Readable
from onhand.state import checkpoint
from onhand.state.state import Limits, State

__all__ = ["Past"]


class Past:
    """Rebuilds states. One that it yields is good until the next is asked for."""

    def __init__(
        self, log: Readable, checkpoints: Path | None, features: FeatureSet, limits: Limits
    ) -> None:
        self._log = log
        self._checkpoints = checkpoints
        self.features = features
        self._limits = limits

    @property
    def last(self) -> int:
        """The offset of the log's last record."""
        return self._log.last

    def records(self, after: int) -> Iterator[Batch]:
        """Yield the log's records behind an offset."""
        return self._log.read(after)

    def begin(self, offset: int) -> State:
        """Return the state of the newest checkpoint at or before `offset`, else an empty one."""
        counts = self.features.accumulators(self._limits)
        state = State(self._limits, counts)
        if self._checkpoints is None:
            return state
        kept = checkpoint.load_latest(self._checkpoints, state.schema, offset)
        if kept is None:
            return state
        return State.restore(kept.arrays, kept.values, self._limits, counts)

    def at(self, offset: int) -> State:
        """Return the state as of `offset`."""
        return next(self.states([offset]))

    def save(self, state: State) -> None:
        """Write a checkpoint of a state, which a start with the same features begins from."""
        if self._checkpoints is not None:
            arrays, values = state.dump().encode()
            checkpoint.save(self._checkpoints, state.offset, state.schema, arrays, values)

    def states(
        self, offsets: Iterable[int], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[State]:
        """Yield the state at each of `offsets`, which ascend, in one pass over the log.

        `on_progress` is told the offset that is reached. An offset behind the log's end gives its
        end.
        """
        wanted = iter(offsets)
        target = next(wanted, None)
        if target is None:
            return
        state = self.begin(target)
        batches = self._log.read(state.offset)
        for batch in batches:
            while target is not None and target < batch.first + len(batch.records):
                _advance(state, batch, target)
                yield state
                target = next(wanted, None)
            if target is None:
                return
            _advance(state, batch, batch.first + len(batch.records) - 1)
            if on_progress is not None:
                on_progress(state.offset)
        while target is not None:
            yield state
            target = next(wanted, None)


def _advance(state: State, batch: Batch, last: int) -> None:
    """Fold what of a batch is behind the state's offset, up to `last`."""
    begin, end = state.offset + 1 - batch.first, last + 1 - batch.first
    if end > begin:
        state.apply(batch.records[begin:end], last)
