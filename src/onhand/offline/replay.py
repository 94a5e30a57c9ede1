"""Replay: past decisions made again by the same code, and what came out otherwise.

All decisions asked for are made again in one pass over the log, each from the state as of its own
offset.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from onhand.contracts.answers import Recommendation
from onhand.decision.prepared import Ranker, make_scratch
from onhand.decision.records import DecisionRecord
from onhand.decision.replay import Difference, again, compare
from onhand.past import Past
from onhand.retrieval.pool import make_pool

__all__ = ["Replayed", "replay"]


class Replayed(NamedTuple):
    """A decision made again; `differences` is empty where the answer is equal to the byte."""

    record: DecisionRecord
    answer: Recommendation
    differences: list[Difference]


def replay(
    records: Iterable[DecisionRecord],
    past: Past,
    ranker: Ranker | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Replayed]:
    """Make decisions again, in the order of their offsets.

    With a `ranker`, `differences` say what it would have shown.
    """
    ordered = sorted(records, key=lambda record: record.answer.as_of)
    offsets = [record.answer.as_of for record in ordered]
    pool = scratch = None
    for record, state in zip(ordered, past.states(offsets, on_progress), strict=True):
        pool = pool or make_pool(state.limits.items)
        scratch = scratch or (make_scratch(state) if ranker else None)
        answer = again(state, record, pool, ranker, scratch)
        yield Replayed(record, answer, compare(record.answer, answer))
