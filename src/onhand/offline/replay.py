"""Replay: past decisions made again by the same code, and what came out otherwise.

All decisions asked for are made again in one pass over the log, each from the state as of its own
offset.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from onhand.contracts.answers import Recommendation
from onhand.decision.models import Models
from onhand.decision.prepared import Ranker, make_scratch
from onhand.decision.records import DecisionRecord
from onhand.decision.replay import Difference, again, compare, list_now, list_then
from onhand.past import Past
from onhand.retrieval.listed import NO_LIST, Listed
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
    models: Models,
    model: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[Replayed]:
    """Make decisions again, in the order of their offsets, with the lists that their models make
    of the state as it was when they were prepared.

    With a `model`, `differences` say what that would have shown, its lists made at the decision.
    Raises `Unknown` or `Refused` where a model is not there.
    """
    ordered = sorted(records, key=lambda record: record.answer.as_of)
    moments = sorted(_moments(ordered, lists=model is None))
    rankers: dict[str, Ranker | None] = {}
    lists: dict[int, Listed] = {}
    pool = scratch = None
    states = past.states([offset for offset, _, _ in moments], on_progress)
    for (_, decides, at), state in zip(moments, states, strict=True):
        pool = pool or make_pool(state.limits.items)
        scratch = scratch or make_scratch(state)
        record = ordered[at]
        label = model or record.answer.model
        if label not in rankers:
            rankers[label] = models.find(label)
        ranker = rankers[label]
        if not decides:
            if ranker is not None:
                lists[at] = list_then(state, record, ranker, scratch)
            continue
        listed = lists.pop(at, NO_LIST)
        if model is not None and ranker is not None:
            listed = list_now(state, record, ranker, scratch)
        answer = again(state, record, pool, listed, label)
        yield Replayed(record, answer, compare(record.answer, answer))


def _moments(ordered: Sequence[DecisionRecord], lists: bool) -> Iterator[tuple[int, bool, int]]:
    """Yield the offsets that states are needed of, whether to decide or to make the list, and the
    place of the decision."""
    for at, record in enumerate(ordered):
        if lists and record.prepared_ms:
            yield record.candidates_as_of, False, at
        yield record.answer.as_of, True, at
