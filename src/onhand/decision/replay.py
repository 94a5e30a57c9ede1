"""Making a decision again: from its record and the state as of its offset, and telling it apart.

`decide` is a pure function, so the answer must come out the same to the byte; only how long it
took may differ.
"""

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from onhand.contracts.answers import Recommendation
from onhand.contracts.models import DEFAULT
from onhand.decision.decide import decide
from onhand.decision.ladder import POPULAR_PLAN, choose_static
from onhand.decision.prepared import Ranker, Scratch, make_scratch, prepare
from onhand.decision.records import DecisionRecord
from onhand.decision.slots import PLANS, SIMILAR, Plan
from onhand.features.set import Asker, Vector
from onhand.retrieval.listed import NO_LIST
from onhand.retrieval.pool import Pool
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.retrieval.sources import LABELS
from onhand.state.barriers import REASONS
from onhand.state.state import State

__all__ = ["Candidate", "Difference", "Explanation", "again", "compare", "explain"]


class Difference(Struct, frozen=True):
    """A field of an answer that came out otherwise."""

    field: str
    was: Any
    now: Any


class Candidate(Struct, frozen=True):
    """One candidate: its place on the page (null: not chosen), its score and the part of each
    source, why it was kept off (null: it was not), and its features."""

    item: str
    place: int | None
    score: float
    source: str
    parts: dict[str, float]
    dropped: str | None
    features: dict[str, float]


class Explanation(Struct, frozen=True):
    """A decision with every candidate, best first. `same` says that it came out as recorded."""

    decision: str
    slot: str
    as_of: int
    now_ms: int
    model: str
    same: bool
    differences: list[Difference]
    candidates: list[Candidate]


def plan_of(record: DecisionRecord) -> Plan:
    """Return the plan that a recorded decision followed."""
    if record.answer.degraded == "popular":
        return POPULAR_PLAN
    return SIMILAR if record.answer.slot == "similar" else PLANS[record.request.slot]


def again(
    state: State,
    record: DecisionRecord,
    pool: Pool,
    ranker: Ranker | None = None,
    scratch: Scratch | None = None,
) -> Recommendation:
    """Return the answer that `state`, as of the record's offset, gives to the same request; with
    `ranker`, as if that had ranked the candidates then. Of a static list, which is the app's, only
    what was shown is known: that is filtered again."""
    if record.answer.degraded == "static":
        shown = [item.id for item in record.answer.items]
        items = choose_static(state, record.request, shown, whole=False)
        return msgspec.structs.replace(record.answer, as_of=state.offset, items=items)
    request, now_ms, sight = record.request, record.now_ms, sight_of(state)
    model, listed = DEFAULT, NO_LIST
    if ranker is not None:
        scratch = scratch or make_scratch(state)
        visitor = find_visitor(state, request)
        model, listed = ranker.label, prepare(state, sight, ranker, visitor, now_ms, scratch).listed
    page = decide(state, sight, request, plan_of(record), now_ms, pool, listed)
    return msgspec.structs.replace(
        record.answer, as_of=state.offset, tier=page.tier, model=model, items=page.items
    )


def compare(was: Recommendation, now: Recommendation) -> list[Difference]:
    """Return what differs between two answers, none when they are equal to the byte."""
    if msgspec.json.encode(was) == msgspec.json.encode(now):
        return []
    before, after = msgspec.to_builtins(was), msgspec.to_builtins(now)
    return [Difference(name, before[name], after[name]) for name in before
            if before[name] != after[name]]  # fmt: skip


def explain(state: State, record: DecisionRecord, pool: Pool, vector: Vector) -> Explanation:
    """Make a decision again and tell of every candidate; `state` is as of the record's offset."""
    parts = _parts(state, record, pool)
    answer = again(state, record, pool)
    found = pool.candidates[: pool.size[0]].copy()
    places = {item.id: place for place, item in enumerate(answer.items, 1)}
    visitor = find_visitor(state, record.request)
    device = state.devices.rows.get(record.request.context.device or "", 0)
    asker = Asker(visitor.user, visitor.session, visitor.country, device)
    features = vector.gather(state, asker, found["item"], record.now_ms)
    differences = compare(record.answer, answer)
    candidates = [
        Candidate(
            item=state.items.names[row["item"]],
            place=places.get(state.items.names[row["item"]]),
            score=round(float(row["score"]), 6),
            source=LABELS[row["source"]],
            parts=parts.get(int(row["item"]), {}),
            dropped=REASONS[row["reason"]] or None,
            features=dict(zip(vector.names, values.tolist(), strict=True)),
        )
        for row, values in zip(found, features, strict=True)
    ]
    candidates.sort(key=lambda each: (each.place or 10**6, -each.score, each.item))
    return Explanation(
        decision=answer.decision,
        slot=answer.slot,
        as_of=answer.as_of,
        now_ms=record.now_ms,
        model=answer.model,
        same=not differences,
        differences=differences,
        candidates=candidates,
    )


def _parts(state: State, record: DecisionRecord, pool: Pool) -> dict[int, dict[str, float]]:
    """Return what each source alone gives each item: the sources' parts add up to the score."""
    plan = plan_of(record)
    parts: dict[int, dict[str, float]] = {}
    for at, code in enumerate(plan.codes.tolist()):
        alone = plan._replace(codes=plan.codes[at : at + 1], weights=plan.weights[at : at + 1])
        decide(state, sight_of(state), record.request, alone, record.now_ms, pool)
        found = pool.candidates[: pool.size[0]]
        for row in found[np.flatnonzero(found["score"])]:
            given = parts.setdefault(int(row["item"]), {})
            label = LABELS[code]
            given[label] = round(given.get(label, 0.0) + float(row["score"]), 6)
    return parts
