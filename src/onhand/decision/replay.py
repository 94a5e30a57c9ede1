"""Making a decision again: from its record and the state as of its offset, and telling it apart.

`decide` is a pure function, so the answer must come out the same to the byte; only how long it
took may differ.
"""

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from onhand.contracts.answers import Recommendation
from onhand.decision.decide import Desk, decide
from onhand.decision.ladder import POPULAR_PLAN, choose_static
from onhand.decision.lists import Whom, audience
from onhand.decision.models import Models
from onhand.decision.prepared import Ranker, Scratch, make_scratch, prepare
from onhand.decision.records import DecisionRecord
from onhand.decision.slots import PLANS, SIMILAR, Plan
from onhand.features.set import Asker, Vector
from onhand.past import Past
from onhand.retrieval.foresight import gone_chance
from onhand.retrieval.listed import LIVE_SHARE, NO_LIST, Listed
from onhand.retrieval.pool import Pool
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.retrieval.sources import LABELS
from onhand.state.barriers import REASONS
from onhand.state.state import State

__all__ = [
    "Candidate",
    "Difference",
    "Explanation",
    "again",
    "compare",
    "explain",
    "list_now",
    "list_then",
    "restore",
]


class Difference(Struct, frozen=True):
    """A field of an answer that came out otherwise."""

    field: str
    was: Any
    now: Any


class Candidate(Struct, frozen=True):
    """One candidate: its place on the page (null: not chosen), its score and the part of each
    source, the chance that it is sold out before a click, why it was kept off (null: it was not),
    and its features.

    The parts add up to the score before it was lowered by that chance; the score of what is kept
    off is not lowered."""

    item: str
    place: int | None
    score: float
    source: str
    parts: dict[str, float]
    gone_chance: float
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
        plan = POPULAR_PLAN
    else:
        plan = SIMILAR if record.answer.slot == "similar" else PLANS[record.request.slot]
    return plan._replace(foresight=record.foresight)


def list_then(state: State, record: DecisionRecord, ranker: Ranker, scratch: Scratch) -> Listed:
    """Return the list that a decision was made with, by its model and the state as of
    `record.candidates_as_of`."""
    whom = audience(record.request, record.of_user)
    if record.of_country is not None:
        whom = Whom(record.request.slot, None, None, country=record.of_country or None)
    visitor = find_visitor(state, whom.request())
    return prepare(state, sight_of(state), ranker, visitor, record.prepared_ms, scratch).listed


def list_now(state: State, record: DecisionRecord, ranker: Ranker, scratch: Scratch) -> Listed:
    """Return the list that another model makes at the moment of a decision."""
    visitor = find_visitor(state, record.request)
    return prepare(state, sight_of(state), ranker, visitor, record.now_ms, scratch).listed


def restore(record: DecisionRecord, past: Past, models: Models) -> tuple[State, Listed]:
    """Return the state as of a decision, and the list that it was made with.

    Raises `Unknown` or `Refused` where its model is not there any more.
    """
    if not record.prepared_ms:
        return past.at(record.answer.as_of), NO_LIST
    states = past.states([record.candidates_as_of, record.answer.as_of])
    state, ranker = next(states), models.find(record.answer.model)
    listed = NO_LIST if ranker is None else list_then(state, record, ranker, make_scratch(state))
    return next(states), listed


def again(
    state: State,
    record: DecisionRecord,
    pool: Pool,
    listed: Listed = NO_LIST,
    model: str | None = None,
) -> Recommendation:
    """Return the answer that `state`, as of the record's offset, gives to the same request with a
    list: its own, or that of another `model`. Of a static list, which is the app's, only what was
    shown is known: that is filtered again."""
    if record.answer.degraded == "static":
        shown = [item.id for item in record.answer.items]
        items = choose_static(state, record.request, shown, whole=False)
        return msgspec.structs.replace(record.answer, as_of=state.offset, items=items)
    desk = Desk(state, pool)
    page = decide(desk, record.request, plan_of(record), record.now_ms, listed)
    return msgspec.structs.replace(
        record.answer,
        as_of=state.offset,
        tier=page.tier,
        model=model or record.answer.model,
        items=page.items,
    )


def compare(was: Recommendation, now: Recommendation) -> list[Difference]:
    """Return what differs between two answers, none when they are equal to the byte."""
    if msgspec.json.encode(was) == msgspec.json.encode(now):
        return []
    before, after = msgspec.to_builtins(was), msgspec.to_builtins(now)
    return [Difference(name, before[name], after[name]) for name in before
            if before[name] != after[name]]  # fmt: skip


def explain(
    state: State, record: DecisionRecord, pool: Pool, vector: Vector, listed: Listed = NO_LIST
) -> Explanation:
    """Make a decision again and tell of every candidate; `state` is as of the record's offset, and
    `listed` the list that it was made with."""
    parts = _parts(state, record, pool, listed)
    answer = again(state, record, pool, listed)
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
            gone_chance=_gone_chance(state, record, int(row["item"])),
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


def _gone_chance(state: State, record: DecisionRecord, item: int) -> float:
    if not record.foresight:
        return 0.0
    items = state.item
    chance: float = gone_chance(
        items.stock[item],
        items.rush_pieces[item],
        items.rush_ms[item],
        items.sold_ms[item],
        record.now_ms,
    )
    return round(chance, 6)


def _parts(
    state: State, record: DecisionRecord, pool: Pool, listed: Listed
) -> dict[int, dict[str, float]]:
    """Return what each source alone gives each item, and the prepared list: the parts add up to
    the score, foresight left out."""
    plan = plan_of(record)._replace(foresight=False)
    share = LIVE_SHARE if len(listed.rows) else 1.0
    alone = [(LABELS[code], at, at + 1, NO_LIST) for at, code in enumerate(plan.codes.tolist())]
    parts: dict[int, dict[str, float]] = {}
    desk = Desk(state, pool)
    for label, begin, end, ranked in [("prepared", 0, 0, listed), *alone]:
        few = plan._replace(codes=plan.codes[begin:end], weights=share * plan.weights[:, begin:end])
        decide(desk, record.request, few, record.now_ms, ranked)
        found = pool.candidates[: pool.size[0]]
        for row in found[np.flatnonzero(found["score"])]:
            given = parts.setdefault(int(row["item"]), {})
            given[label] = round(given.get(label, 0.0) + float(row["score"]), 6)
    return parts
