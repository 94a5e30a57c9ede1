"""The engine: records in, decisions out. It holds the order of things and nothing else.

A write is three things: `admit` drops what is a duplicate or cannot be, `commit` makes the rest
durable, `apply` folds it. A server runs `commit` on another thread, lets several requests share
it, and answers page reads between the steps of the others; `write` is all three. Everything but
`commit`, `save` and `snapshot` belongs to one thread, and `snapshot` may not run beside `apply`.
"""

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from onhand.admission import Admission, Retry, admit
from onhand.app import App
from onhand.contracts.answers import IngestReport, ItemFacts, Recommendation, RecommendedItem
from onhand.contracts.checks import check
from onhand.contracts.errors import Fault, Invalid, RecordError, Unavailable, Unknown
from onhand.contracts.features import (
    Entity,
    FeastAnswer,
    FeastRequest,
    FeatureAnswer,
    FeatureRequest,
)
from onhand.contracts.models import DEFAULT
from onhand.contracts.records import Context, Record
from onhand.contracts.registry import Registry, control_of
from onhand.contracts.requests import RecommendRequest, Slot
from onhand.contracts.shapes import RECORDS, Kind
from onhand.decision.decide import Desk, Page, decide
from onhand.decision.ladder import (
    LOADING,
    POPULAR_PLAN,
    Fall,
    SlotRule,
    choose_static,
    descend,
)
from onhand.decision.lists import Entry, Lists, Whom, likely
from onhand.decision.models import Models
from onhand.decision.prepared import Gathered, Ranker, gather, make_scratch, rank
from onhand.decision.records import DecisionRecord, Vectors
from onhand.decision.replay import Explanation, explain, restore
from onhand.decision.slots import PLANS, SIMILAR, Plan
from onhand.decision.tiers import find_tier
from onhand.features.drift import Profile, stability
from onhand.features.online import answer, answer_feast, rows_of
from onhand.features.ready import WINDOWS
from onhand.features.set import Asker
from onhand.log.decisions import DecisionStore
from onhand.log.port import Log
from onhand.log.sqlite import SqliteLog
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.retrieval.filters import parse_filter
from onhand.retrieval.listed import NO_LIST
from onhand.retrieval.pool import make_pool
from onhand.retrieval.sight import find_visitor, look_up, sight_of
from onhand.state.barriers import REASONS
from onhand.state.lateness import Held
from onhand.state.state import Arrays, Dump, Limits, State
from onhand.steps import STEP_RECORDS, Steps, finish

__all__ = ["DecisionRecord", "Engine"]

_log = logging.getLogger("onhand")

VARIANT = "control"
KNOWN = ("content", "collaborative")
"""Tiers of visitors of whom there is something to make a list from."""
ERRORS_LISTED = 100
VECTORS_KEPT = 500
_KINDS: Final[dict[type, Kind]] = {record: kind for kind, record in RECORDS.items()}
_TAGS: Final[dict[str, Kind]] = {
    str(record.__struct_config__.tag): kind for kind, record in RECORDS.items()
}


_decode: Final = msgspec.json.Decoder(Recommendation).decode

_CHEAP: Final = {
    foresight: POPULAR_PLAN._replace(foresight=foresight) for foresight in (False, True)
}


class Decided(NamedTuple):
    """An answer as JSON, how well the visitor is known, and the lower step of the ladder."""

    json: bytes
    tier: str
    degraded: str | None


class Engine:
    """The whole engine in-process, on one log."""

    def __init__(
        self,
        log: Log,
        checkpoints: Path | None = None,
        decisions: DecisionStore | None = None,
        limits: Limits = Limits(),
        app: App | None = None,
        vector_share: float = 0.0,
        profile: Profile | None = None,
        models: ModelStore | None = None,
        prepared_bytes: int = 1 << 26,
    ) -> None:
        self.ready = False
        app = app or App()
        self.features = app.features
        self._declared = app.events
        self._rules: Mapping[Slot, SlotRule] = app.slots
        self.slots_ahead: frozenset[Slot] = frozenset(
            slot for slot, rule in app.slots.items() if rule.ahead
        )
        """Slots that are ranked for a visitor before a page of them has asked."""
        self._plans = {
            slot: PLANS[slot]._replace(foresight=rule.foresight) for slot, rule in app.slots.items()
        }
        self.lists = Lists(prepared_bytes)
        self._kept_lists = None if checkpoints is None else checkpoints.with_name("lists")
        self.models = Models(models, self.features)
        self.degraded: Counter[tuple[str, str]] = Counter()
        """How many answers came from each lower step of the ladder, and why."""
        self.waited = 0
        """How many lists were made while whoever asked for them waited."""
        self.unlisted: dict[str, int] = {"events": 0, "signals": 0}
        """How many records were taken that name an item which is not in the catalogue."""
        self._log = log
        self._checkpoints = checkpoints
        self._decisions = decisions
        self._state = State(limits, self.features.accumulators(limits))
        self._sight = sight_of(self._state)
        self._pool = make_pool(limits.items)
        self._desk = Desk(self._state, self._pool)
        self._scratch = make_scratch(self._state)
        self._windows = {
            shown: name for shown, name in WINDOWS.items() if name in self.features.names
        }
        self._window_counts = self.features.vector(tuple(self._windows.values()))
        self._every_feature = self.features.vector()
        self._vector_share = vector_share
        """The share of decision records that also keep the features of what was shown."""
        self._profile = profile
        self._recent_vectors: deque[NDArray[np.float32]] = deque(maxlen=VECTORS_KEPT)
        self._past = Past(log, checkpoints, self.features, limits)
        self._checkpointed = 0
        self._failures, self._failed_s = 0, -inf
        self._run = secrets.token_hex(4)
        self._decided = 0
        self._encode = msgspec.json.Encoder().encode

    @classmethod
    def open(cls, path: str | Path, limits: Limits = Limits(), app: App | None = None) -> "Engine":
        """Open the engine whose data lies in the folder `path`, and load it; `app` declares what
        the shop's own features are.

        Raises `LogRefused` when another process holds the log.
        """
        folder = Path(path)
        engine = cls(
            SqliteLog(folder / "log.db"),
            folder / "checkpoints",
            DecisionStore(folder / "decisions.db"),
            limits,
            app,
            models=ModelStore(folder / "models"),
        )
        engine.load()
        return engine

    @property
    def offset(self) -> int:
        """The offset that the state is as of."""
        return self._state.offset

    @property
    def decided(self) -> int:
        """How many decisions it has made."""
        return self._decided

    @property
    def contracts(self) -> Registry:
        """All contracts as of the offset."""
        return self._state.contracts

    @property
    def controls(self) -> Mapping[str, Mapping[str, Any]]:
        """What was decided about the engine itself, by name, as of the offset."""
        return self._state.controls

    @property
    def held(self) -> Held:
        """Events that wait for earlier ones, and how many came too late."""
        return self._state.held

    @property
    def kept_off(self) -> dict[str, int]:
        """How many items each barrier has kept off pages."""
        return dict(zip(REASONS[1:], self._pool.kept_off[1, 1:].tolist(), strict=True))

    def load(self, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:
        """Take the latest checkpoint and fold the records behind it.

        `on_progress` is told how many of the log's records are folded, and how many there are.
        """
        self._state = self._past.begin(self._log.last)
        self._sight = sight_of(self._state)
        self._desk = Desk(self._state, self._pool)
        self._checkpointed = self.offset
        self._past.catch_up(self._state, on_progress)
        self.models.follow(self.controls)
        if self.models.ranker is not None and self._kept_lists is not None:
            self.lists.load(self._kept_lists, self.offset)
        self.ready = True
        self._register_declared()

    def _register_declared(self) -> None:
        """Put the contracts of the app's own event types into the log where it has them not.
        Raises `Invalid`, and `Incompatible` where one would refuse what an older version took."""
        declared = (self.contracts.declare(name, draft) for name, draft in self._declared.items())
        records = [control_of(contract) for contract in declared if contract is not None]
        if records:
            self.write([records], _now_ms())

    def ingest(
        self, records: Iterable[Record | Mapping[str, Any]], now_ms: int | None = None
    ) -> IngestReport:
        """Take records, as structs or as mappings with their `kind`; return when they are durable
        and visible. Wrong ones are refused in the report, the others are kept."""
        if now_ms is None:
            now_ms = _now_ms()
        good: list[Record] = []
        places: list[int] = []
        errors: list[RecordError] = []
        for index, raw in enumerate(records):
            record = self._read(raw, now_ms)
            if isinstance(record, Fault):
                errors.append(RecordError(index, record.code, record.message))
            else:
                good.append(record)
                places.append(index)
        report = self.write([good], now_ms)[0]
        errors += [msgspec.structs.replace(e, index=places[e.index]) for e in report.errors]
        rejected = len(errors) + report.rejected - len(report.errors)
        errors.sort(key=lambda error: error.index)
        return msgspec.structs.replace(report, rejected=rejected, errors=errors[:ERRORS_LISTED])

    def write(self, groups: Sequence[Sequence[Record] | Retry], now_ms: int) -> list[IngestReport]:
        """Admit, commit and apply; report to each group."""
        admission = finish(self.admit(groups, now_ms))
        self.commit(admission)
        return [report for reports in self.apply(admission) for report in reports]

    def admit(self, groups: Sequence[Sequence[Record] | Retry], now_ms: int) -> Steps[Admission]:
        """Drop duplicates, and refuse what the catalogue has no room for or does not know, or
        what comes too late. Nothing else may be applied between the steps."""
        self._check_ready()
        admission = yield from admit(self._state, groups, now_ms)
        for kind, count in admission.unlisted.items():
            self.unlisted[kind] += count
        return admission

    def commit(self, admission: Admission) -> None:
        """Make what was admitted durable. Raises `LogFailed`."""
        if admission.records:
            self._log.append(admission.records)

    def apply(self, admission: Admission) -> Iterator[list[IngestReport]]:
        """Fold what was committed, step by step: after each, yield the reports of the groups that
        are folded whole. Between the steps the state may be read."""
        first, records, groups = self.offset, admission.records, deque(admission.groups)
        for begin in range(0, max(len(records), 1), STEP_RECORDS):
            step = records[begin : begin + STEP_RECORDS]
            folded = begin + len(step)
            if step:
                self._state.apply(step, first + folded)
                self.models.follow(self.controls)
            reports: list[IngestReport] = []
            while groups and groups[0].upto <= folded:
                done = groups.popleft()
                reports.append(
                    IngestReport(
                        done.accepted,
                        done.duplicates,
                        done.rejected,
                        first + done.upto,
                        done.errors,
                    )
                )
            yield reports

    def recommend(
        self,
        slot: Slot,
        *,
        user: str | None = None,
        session: str | None = None,
        n: int = 10,
        item: str | None = None,
        exclude: Sequence[str] = (),
        context: Context = Context(),
        filter: str | None = None,  # noqa: A002 (the request's field)
        per_brand: int | None = None,
        per_category: int | None = None,
        variety: float = 0.0,
        now_ms: int | None = None,
    ) -> Recommendation:
        """Answer what to show: see `RecommendRequest`. Raises `Invalid` for an unknown slot or a
        wrong number, `Refused` for a wrong filter."""
        fields = {
            "slot": slot,
            "user": user,
            "session": session,
            "n": n,
            "item": item,
            "exclude": list(exclude),
            "context": context,
            "filter": filter,
            "per_brand": per_brand,
            "per_category": per_category,
            "variety": variety,
        }
        try:
            request = msgspec.convert(fields, RecommendRequest)
        except msgspec.ValidationError as error:
            raise Invalid("request", f"{error}.") from None
        return self.decide(request, now_ms)

    def decide(
        self,
        request: RecommendRequest,
        now_ms: int | None = None,
        waited_ms: float = 0.0,
        hurry: bool = False,
    ) -> Recommendation:
        """Answer a request that has been checked, by the best step of the ladder that there is
        time for: it has waited `waited_ms` already, and `hurry` asks for a cheap answer.

        Raises `Unavailable` where the log is not folded yet and the app declares no list, and
        `Refused` for a wrong filter.
        """
        return _decode(self.decide_as_json(request, now_ms, waited_ms, hurry).json)

    def decide_as_json(
        self,
        request: RecommendRequest,
        now_ms: int | None = None,
        waited_ms: float = 0.0,
        hurry: bool = False,
    ) -> Decided:
        """As `decide`, as JSON."""
        if request.filter is not None:
            parse_filter(request.filter)
        if not self.answers(request.slot):
            self._check_ready()
        plan = self._plans[request.slot]
        return self._answer(request, request.slot, plan, now_ms, waited_ms, hurry)

    def answers(self, slot: Slot) -> bool:
        """Whether a page of `slot` gets an answer now, if only a declared list."""
        return self.ready or bool(self._rules[slot].static)

    def similar(self, item: str, n: int = 10, now_ms: int | None = None) -> Recommendation:
        """Answer what goes with an item, whoever asks. Raises `Unknown`."""
        self._check_ready()
        self._row(item)
        request = RecommendRequest(slot="product", item=item, n=n)
        plan = SIMILAR._replace(foresight=self._rules["product"].foresight)
        return _decode(self._answer(request, "similar", plan, now_ms).json)

    def _answer(
        self,
        request: RecommendRequest,
        slot: str,
        plan: Plan,
        now_ms: int | None,
        waited_ms: float = 0.0,
        hurry: bool = False,
    ) -> Decided:
        began_ns = time.perf_counter_ns()
        if now_ms is None:
            now_ms = _now_ms()
        entry = None
        reads_lists = self.models.ranker is not None and not hurry
        if reads_lists and slot == request.slot:
            entry = self.lists.find(request) or self._find_head(request)
        fall, page, entry = self._descend(request, plan, entry, now_ms, waited_ms, hurry)
        if fall.step is not None:
            self.degraded[fall.step, fall.reason] += 1
        self._decided += 1
        answer = Recommendation(
            decision=f"{self._run}-{self._decided:x}",
            slot=slot,
            as_of=self._state.offset,
            tier=page.tier,
            model=DEFAULT if entry is None else entry.prepared.model,
            variant=VARIANT,
            degraded=fall.step,
            items=cast("list[RecommendedItem]", msgspec.Raw(page.json)),
            took_us=(time.perf_counter_ns() - began_ns) // 1000,
            age_ms=now_ms - entry.prepared.prepared_ms
            if fall.step == "stale" and entry is not None
            else UNSET,
        )
        if reads_lists:
            self._note_list(request, entry, fall, page.tier, now_ms)
        body = self._encode(answer)
        if self._decisions is not None:
            vectors = self._vectors(request, answer.decision, page, now_ms)
            record = self._record(request, body, entry, now_ms, plan.foresight, vectors)
            self._decisions.put(answer.decision, self._encode(record))
        return Decided(body, page.tier, fall.step)

    def _find_head(self, request: RecommendRequest) -> Entry | None:
        """Return the list for visitors of whom no more is known than of this one."""
        if request.item is not None:
            return None
        state = self._state
        session, user, _, country, *_ = look_up(state, request)
        if session or user:
            if state.session.interactions.item(session):
                return None
            visitor = find_visitor(state, request)
            if find_tier(state, visitor) > 0:
                return None
            country = visitor.country
        return self.lists.find_head(request.slot, state.countries.names[country] or None)

    def _note_list(
        self, request: RecommendRequest, entry: Entry | None, fall: Fall, tier: str, now_ms: int
    ) -> None:
        """Count a page read by the list that it began from, and ask for what it lacked."""
        if entry is not None:
            self.lists.reads[tier, fall.step or "fresh"] += 1
            self.lists.refresh(entry, now_ms)
            return
        self.lists.reads[tier, "none"] += 1
        if tier in KNOWN:
            self.lists.want(request)

    def _record(
        self,
        request: RecommendRequest,
        body: bytes,
        entry: Entry | None,
        now_ms: int,
        foresight: bool,
        vectors: Vectors | None,
    ) -> DecisionRecord:
        answer, app = cast(Recommendation, msgspec.Raw(body)), self.features.version
        if entry is None:
            return DecisionRecord(
                request, now_ms, answer, app, foresight=foresight, vectors=vectors
            )
        return DecisionRecord(
            request,
            now_ms,
            answer,
            app,
            candidates_as_of=entry.prepared.as_of,
            prepared_ms=entry.prepared.prepared_ms,
            of_user=entry.whom.user is not None and request.session is not None,
            of_country=(entry.whom.country or "") if entry.whom.is_head else None,
            foresight=foresight,
            vectors=vectors,
        )

    def _descend(
        self,
        request: RecommendRequest,
        plan: Plan,
        entry: Entry | None,
        now_ms: int,
        waited_ms: float,
        hurry: bool,
    ) -> tuple[Fall, Page, Entry | None]:
        """Return the first step of the ladder that gives a page, the page, and the prepared list
        where that was used; the page is empty where even the last step fails."""
        rule = self._rules[request.slot]
        behind = ""
        if entry is not None and self.lists.is_stale(entry, now_ms):
            behind = "breaker" if self.lists.failing else "behind"
        fall = LOADING
        for fall in descend(rule, behind, waited_ms, hurry) if self.ready else (LOADING,):
            try:
                if fall.step == "static":
                    items = choose_static(self._state, request, rule.static, self.ready)
                    return fall, Page(self._encode(items), "none"), None
                if fall.step == "popular":
                    page = decide(self._desk, request, _CHEAP[plan.foresight], now_ms)
                    entry = None
                else:
                    listed = NO_LIST if entry is None else entry.prepared.listed
                    page = decide(self._desk, request, plan, now_ms, listed)
            except Exception:
                self._note_failure(fall, request)
            else:
                return fall, page, entry
        return fall, Page(b"[]", "none"), None

    def _note_failure(self, fall: Fall, request: RecommendRequest) -> None:
        """Log the exception that a page was not made for: one a second, with how many there were
        since the last, because every page may fail."""
        self._failures += 1
        now_s = time.monotonic()
        if now_s - self._failed_s >= 1.0:
            step, count = fall.step or "fresh", self._failures
            _log.exception("%d pages were not made; this at step %s, %r", count, step, request)
            self._failures, self._failed_s = 0, now_s

    def gather(self, ranker: Ranker, whoms: Sequence[Whom], now_ms: int) -> list[Gathered]:
        """Find candidates for visitors and read what `ranker` asks of them, all as of one offset.
        On any one thread, but not while anything is applied."""
        state, sight = self._state, self._sight
        return [
            gather(state, sight, ranker, find_visitor(state, whom.request()), now_ms, self._scratch)
            for whom in whoms
        ]

    def prepare(self, whoms: Sequence[Whom], now_ms: int | None = None) -> int:
        """Make lists by the active model, which the next pages begin from; return how many. A
        server does this behind its pages; in-process it is for the caller to do.

        Raises `ModelFailed`, and whatever the model raises.
        """
        ranker = self.models.ranker
        if ranker is None or not whoms:
            return 0
        gathered = self.gather(ranker, whoms, _now_ms() if now_ms is None else now_ms)
        self.waited += len(whoms)
        for whom, prepared in zip(whoms, rank(ranker, gathered), strict=True):
            self.lists.put(whom, prepared)
        return len(whoms)

    def likely(self) -> list[Whom]:
        """Return whom to make lists for before they come: the most active fifth of the visitors,
        those first who were here last, as many as there is room for."""
        return likely(self._state, self.slots_ahead, self.lists.capacity)

    def item(self, id: str, now_ms: int | None = None) -> ItemFacts:
        """Return an item's entry and how it stands now. Raises `Unknown`."""
        self._check_ready()
        row = self._row(id)
        now_ms = _now_ms() if now_ms is None else now_ms
        counts = self._window_counts.gather(self._state, Asker(), np.array([row]), now_ms)[0]
        windows = dict(zip(self._windows, counts.astype(int).tolist(), strict=True))
        return self._state.facts(row, windows)

    def read_features(self, request: FeatureRequest, now_ms: int | None = None) -> FeatureAnswer:
        """Return feature values of entities, all as of one offset. Raises `Unknown`."""
        self._check_ready()
        return answer(self._state, self.features, request, _now_ms() if now_ms is None else now_ms)

    def read_feast(self, request: FeastRequest, now_ms: int | None = None) -> FeastAnswer:
        """Return the same to a client of Feast's feature server. Raises `Unknown`, `Invalid`."""
        self._check_ready()
        return answer_feast(
            self._state, self.features, request, _now_ms() if now_ms is None else now_ms
        )

    def decision(self, id: str) -> bytes:
        """Return the JSON of a `DecisionRecord`. Raises `Unknown`."""
        body = self._decisions.get(id) if self._decisions is not None else None
        if body is None:
            raise Unknown(
                "unknown_decision",
                f"There is no decision {id[:128]!r}. Records leave after a week; the last moments "
                "before a crash may be missing.",
            )
        return body

    def explain(self, id: str) -> Explanation:
        """Make a recorded decision again and tell of every candidate. Raises `Unknown`.

        It rebuilds the state as of then, which takes as long as the log is behind a checkpoint;
        it may run on any thread.
        """
        record = msgspec.json.decode(self.decision(id), type=DecisionRecord)
        state, listed = restore(record, self._past, self.models)
        return explain(state, record, make_pool(state.limits.items), self._every_feature, listed)

    def drift(self) -> dict[str, float]:
        """Return how far each feature of the latest kept vectors is from the training set's
        profile, as its population stability index; nothing without a profile or vectors."""
        if self._profile is None or not self._recent_vectors:
            return {}
        recent = np.concatenate(list(self._recent_vectors))
        columns = {name: recent[:, at] for at, name in enumerate(self._every_feature.names)}
        return stability(self._profile, columns)

    def ahead(self) -> list[NDArray[Any]]:
        """Return the memory that the next records will take; they may be applied meanwhile."""
        return self._state.ahead()

    def room(self) -> Arrays:
        """Return memory for a snapshot, which makes it brief; records may be applied meanwhile."""
        return self._state.room()

    def snapshot(self, room: Arrays | None = None) -> Dump:
        """Return a copy of the state, which `save` writes; nothing may be applied meanwhile."""
        return self._state.dump(room)

    def save(self, dump: Dump) -> None:
        """Write a checkpoint of a copied state."""
        self._past.save(self._state, dump)
        self._checkpointed = dump.texts.offset

    def close(self) -> None:
        """Checkpoint what is new, keep the lists, and let go of the files, also when that
        fails."""
        try:
            if self.ready and self.offset > self._checkpointed:
                self.save(self.snapshot())
            if self.ready and self._kept_lists is not None and len(self.lists):
                self.lists.save(self._kept_lists, self.offset)
        finally:
            self.ready = False
            if self._decisions is not None:
                self._decisions.close()
            self._log.close()

    def _read(self, raw: Record | Mapping[str, Any], now_ms: int) -> Record | Fault:
        """Turn what was given into a record that may be logged, or say why it cannot be."""
        if not isinstance(raw, Mapping):
            return self._check(raw, now_ms)
        fields = dict(raw)
        kind = _TAGS.get(str(fields.get("kind")))
        if kind is not None:
            del fields["kind"]
            return self.contracts.gate(kind).read(fields, now_ms)
        try:
            return self._check(msgspec.convert(fields, Record), now_ms)
        except msgspec.ValidationError as error:
            return Fault("schema", f"{error}.")

    def _check(self, record: Record, now_ms: int) -> Record | Fault:
        kind = _KINDS.get(type(record))
        if kind is None:
            return check(record, now_ms) or record
        return self.contracts.gate(kind).check(record, now_ms) or record

    def _vectors(
        self, request: RecommendRequest, decision: str, page: Page, now_ms: int
    ) -> Vectors | None:
        """Return the features of what is shown, for the share of decisions that keeps them."""
        share = self._vector_share
        if not share or crc32(decision.encode()) >= share * 2**32:
            return None
        shown = [self._state.items.rows.get(item.id, 0) for item in page.items]
        context = request.context
        asker = Entity(None, request.user, request.session, context.country, context.device)
        whose = np.array([rows_of(self._state, asker)] * len(shown), np.int64)
        whose = whose.reshape(-1, 5)
        whose[:, 0] = shown
        moments = np.full(len(whose), now_ms, np.int64)
        read = self._every_feature.gather_rows(self._state, whose, moments)
        self._recent_vectors.append(read.values)
        return Vectors(list(self._every_feature.names), read.values.astype("<f4").tobytes())

    def _row(self, id: str) -> int:
        row = self._state.items.rows.get(id, 0)
        if row not in self._state.catalogue.entries:
            raise Unknown("unknown_item", f"There is no item {id[:128]!r} in the catalogue.")
        return row

    def _check_ready(self) -> None:
        if not self.ready:
            raise Unavailable(
                "not_ready", "The log is still being folded. Ask again when /readyz says so."
            )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
