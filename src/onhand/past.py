"""The past: the state as it was at an offset, from the nearest checkpoint and the log after it."""

import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from onhand.contracts.records import Record
from onhand.features.set import FeatureSet
from onhand.log.port import Batch, LogDamaged, Packed, Readable
from onhand.state import checkpoint
from onhand.state.scan import Scanner
from onhand.state.state import Dump, Limits, State

__all__ = ["Folding", "Past"]

STEPS_WAITING: Final = 3
_RECORD: Final = "record"
"""What a checkpoint keeps the last record under that it has folded: the log that it is of has the
same one there."""

_logger = logging.getLogger(__name__)


class Folding:
    """Folds on two other threads, without the interpreter lock, while this one names the records
    that follow: for whoever folds much of a log.

    Until `reach` or `wait` returns, the state's names are ahead of its columns, and these of what
    is counted for features: nobody may read it, and who has `add`ed waits before `submit`.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._scanner: Scanner | None = None
        self._steps: deque[Future[None]] = deque()
        self._counts: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        self._folder = ThreadPoolExecutor(1, thread_name_prefix="fold")
        self._counter = ThreadPoolExecutor(1, thread_name_prefix="count")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.shutdown()
        self._counter.shutdown()

    def add(self, records: Sequence[Record], last: int) -> None:
        """Fold records soon, the last of which has offset `last`. Raises what a fold before
        raised."""
        self._add(self.name(records), last)

    def add_packed(self, batch: Packed) -> None:
        """Fold records soon that nobody has decoded. Raises `LogDamaged` where they are none, and
        what a fold before raised."""
        if self._scanner is None:
            self._scanner = Scanner(self._state, secrets.randbits(62))
        if not self._state.is_room(batch.count):
            self.wait()
        try:
            rows = self._scanner.name(batch.elements, batch.count)
        except msgspec.DecodeError as error:
            raise LogDamaged(batch.first, str(error)) from error
        self._add(rows, batch.last)

    def submit(self, step: Callable[[], None]) -> None:
        """Take a step of the state soon, behind those before. Raises what one of them raised."""
        _make_room(self._steps)
        self._steps.append(self._folder.submit(step))

    def reach(self, records: Sequence[Record], last: int) -> None:
        """Fold records now, behind all that was added: the state may be read. There is nothing to
        name meanwhile, so this thread folds them itself. Raises what a fold raised."""
        rows = self.name(records)
        self.wait()
        if records:
            self._state.step(rows, last)

    def _add(self, rows: NDArray[np.int64], last: int) -> None:
        """Fold operations soon, as `State.step` does, but each of its parts at its own speed."""
        _make_room(self._counts)
        self._counts.append(self._counter.submit(self._state.count, rows))
        self.submit(lambda: self._change(rows, last))

    def _change(self, rows: NDArray[np.int64], last: int) -> None:
        self._state.change(rows)
        self._state.offset = last

    def name(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Return the operations of records, which whoever calls has to submit next. Raises what a
        fold raised."""
        if not self._state.is_room(len(records)):
            self.wait()
        return self._state.name(records)

    def wait(self) -> None:
        """Return when all that was added is folded. Raises what a fold raised."""
        for waiting in (self._steps, self._counts):
            while waiting:
                waiting.popleft().result()


def _make_room(waiting: deque[Future[None]]) -> None:
    """Wait until few enough steps do."""
    if len(waiting) == STEPS_WAITING:
        waiting.popleft().result()


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
        if kept is None or not self._is_of_log(kept):
            return state
        return State.restore(kept.arrays, kept.values, self._limits, counts)

    def _is_of_log(self, kept: checkpoint.Checkpoint) -> bool:
        """Whether a checkpoint's last record is what the log has there."""
        if kept.values.pop(_RECORD, None) == self._encoded(kept.offset):
            return True
        _logger.warning("the checkpoint at offset %d is of another log: passed over", kept.offset)
        return False

    def _encoded(self, offset: int) -> bytes:
        batch = next(self._log.read(offset - 1), None)
        return b"" if batch is None else msgspec.msgpack.encode(batch.records[0])

    def catch_up(
        self, state: State, on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Fold what the log has behind a state. `on_progress` is told how many of its records are
        folded, and how many there are."""
        last = self.last
        with Folding(state) as folding:
            for batch in self._log.packed(state.offset):
                folding.add_packed(batch)
                on_progress(state.offset, last)
            folding.wait()
        on_progress(state.offset, last)

    def at(self, offset: int) -> State:
        """Return the state as of `offset`."""
        return next(self.states([offset]))

    def save(self, state: State, dump: Dump | None = None) -> None:
        """Write a checkpoint of a state, or of the copy that was made of it, which a start with the
        same features begins from."""
        if self._checkpoints is not None:
            dump = dump or state.dump()
            arrays, values = dump.encode()
            values[_RECORD] = self._encoded(dump.texts.offset)
            checkpoint.save(self._checkpoints, dump.texts.offset, state.schema, arrays, values)

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
        with Folding(state) as folding:
            for batch in self._log.read(state.offset):
                done = 0
                while target is not None and target <= batch.last:
                    upto = max(target + 1 - batch.first, done)
                    folding.reach(batch.records[done:upto], target)
                    yield state
                    done, target = upto, next(wanted, None)
                if target is None:
                    return
                folding.add(batch.records[done:], batch.last)
                if on_progress is not None:
                    on_progress(state.offset)
            folding.wait()
            while target is not None:
                yield state
                target = next(wanted, None)
