"""The route table: what routing, the documentation and the OpenAPI document share."""

from typing import Any, Final

from msgspec import Struct

from onhand.contracts.answers import IngestReport, Recommendation
from onhand.contracts.features import FeastAnswer, FeastRequest, FeatureAnswer, FeatureRequest
from onhand.contracts.formats import AVRO, PROTOBUF
from onhand.contracts.records import Event, Id, Item, ItemPatch, Line, Signal, Word
from onhand.contracts.requests import RecommendRequest
from onhand.decision.replay import Explanation
from onhand.serving.contract_routes import CONTRACT_ROUTES
from onhand.serving.model_routes import MODEL_ROUTES
from onhand.serving.problems import Problem
from onhand.serving.route import (
    ADMIN,
    HTML,
    INGEST,
    OPEN,
    PROBLEM,
    READ,
    TEXT,
    Answer,
    Body,
    Parameter,
    Route,
)

__all__ = ["ROUTES", "Route"]


class Health(Struct):
    """The process runs."""

    status: str
    version: str


class Ready(Struct):
    """The log is folded up to `offset`, and pages are answered."""

    ready: bool
    offset: int


class Report(Problem, frozen=True):
    """A problem that also reports what became of the batch."""

    accepted: int
    duplicates: int
    rejected: int
    offset: int
    errors: list[dict[str, Any]]


_SLOT = Parameter(
    "slot", "path", RecommendRequest.__annotations__["slot"], "Where on the site the items appear."
)
_ITEM_PATH = Parameter("id", "path", Id, "The item.")
_N = Parameter("n", "query", RecommendRequest.__annotations__["n"], "How many items.", 10)
_VISITOR = (
    Parameter("user", "query", Id, "Who is signed in."),
    Parameter("session", "query", Id, "The visit, also when nobody is signed in."),
    _N,
    Parameter("item", "query", Id, "The seed: the product whose page it is."),
    Parameter(
        "exclude", "query", Id, "Items that must not appear; repeat it or separate by comma.",
        many=True,
    ),
    Parameter("device", "query", Word, "Context: the kind of device."),
    Parameter("country", "query", Word, "Context: the country, ISO 3166."),
    Parameter("referrer", "query", Line, "Context: where the visitor came from."),
    Parameter(
        "filter", "query", Line,
        "Which items may appear: `category = home/kitchen and price < 20 and not brand = Acme`.",
    ),
    Parameter(
        "per_brand", "query", RecommendRequest.__annotations__["per_brand"],
        "Items of one brand, at most.",
    ),
    Parameter(
        "per_category", "query", RecommendRequest.__annotations__["per_category"],
        "Items of one category, at most.",
    ),
    Parameter(
        "variety", "query", RecommendRequest.__annotations__["variety"],
        "How much being unlike the items before counts beside the score, 0 to 1.", 0.0,
    ),
)  # fmt: skip

_REPORT = Answer("What became of the records; they are durable and visible.", IngestReport)
_NOTHING = Answer("Nothing was accepted; the document lists why.", Report, PROBLEM)
_PAGE = Answer("The items, and how good the answer is.", Recommendation)
_BINARY: Final = (AVRO, PROTOBUF)

_EVENT_EXAMPLE = {"type": "view", "session": "s1", "item": "85123A"}
_ITEM_EXAMPLE = {
    "id": "85123A",
    "title": "White hanging heart T-light holder",
    "category": "home/lighting",
    "price": 2.55,
    "stock": 41,
}
_SIGNAL_EXAMPLE = {"item": "85123A", "stock": 0}

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST", "/v1/events", "post_events", "Records",
        "Say what visitors do",
        "One object, an array, or NDJSON. The answer comes when the events are on disk and every "
        "later answer reflects them. An event's `id` makes it idempotent: sent twice, it counts "
        "once. A bad record is refused with its index, a code and a sentence; the good ones "
        "beside it are kept.",
        {202: _REPORT, 422: _NOTHING},
        body=Body(Event, _EVENT_EXAMPLE, batch=True, media=_BINARY),
        access=INGEST,
    ),
    Route(
        "PUT", "/v1/items", "put_items", "Records",
        "Set catalogue entries",
        "Whole entries; each replaces the one before. Price and stock that a feed leaves out stay.",
        {202: _REPORT, 422: _NOTHING},
        body=Body(Item, _ITEM_EXAMPLE, batch=True, media=_BINARY),
        access=INGEST,
    ),
    Route(
        "POST", "/v1/items", "post_items", "Records",
        "Set catalogue entries",
        "The same as PUT.",
        {202: _REPORT, 422: _NOTHING},
        body=Body(Item, _ITEM_EXAMPLE, batch=True, media=_BINARY),
        access=INGEST,
    ),
    Route(
        "PATCH", "/v1/items/{id}", "patch_item", "Records",
        "Change part of a catalogue entry",
        "What is left out stays; `stock` null means that stock is not tracked.",
        {202: _REPORT},
        (_ITEM_PATH,),
        Body(ItemPatch, {"price": 2.25}, without=("id",)),
        problems=(404,),
        access=INGEST,
    ),
    Route(
        "DELETE", "/v1/items/{id}", "delete_item", "Records",
        "Take an item out of the catalogue",
        "It appears on no page from the acknowledgement on; what visitors did with it stays known.",
        {202: _REPORT},
        (_ITEM_PATH,),
        problems=(404,),
        access=INGEST,
    ),
    Route(
        "POST", "/v1/signals", "post_signals", "Records",
        "Say how items stand right now",
        "Stock, price, policy flags, fulfilment: any of them. Stock 0 or any flag keeps the item "
        "off every page from the acknowledgement on; an empty `flags` lifts the hold.",
        {202: _REPORT, 422: _NOTHING},
        body=Body(Signal, _SIGNAL_EXAMPLE, batch=True, media=_BINARY),
        access=INGEST,
    ),
    Route(
        "GET", "/v1/recommend/{slot}", "get_recommend", "Pages",
        "What should this visitor see, right now?",
        "`as_of` is the log offset of the one snapshot that the answer was made from, `tier` how "
        "well the visitor is known, `degraded` which fallback answered (null: none).",
        {200: _PAGE},
        (_SLOT, *_VISITOR),
        curl="/v1/recommend/home?session=s1&n=5",
        problems=(404, 422),
        access=READ,
    ),
    Route(
        "POST", "/v1/recommend/{slot}", "post_recommend", "Pages",
        "The same, asked in JSON",
        "For long `exclude` lists, and for callers who would rather not build query strings.",
        {200: _PAGE},
        (_SLOT,),
        Body(RecommendRequest, {"session": "s1", "n": 5}, without=("slot",)),
        problems=(404, 422),
        access=READ,
    ),
    Route(
        "GET", "/v1/similar/{item}", "get_similar", "Pages",
        "What goes with this item",
        "For nobody in particular: what visitors look at and buy together with it.",
        {200: _PAGE},
        (Parameter("item", "path", Id, "The item."), _N),
        problems=(404,),
        access=READ,
    ),
    Route(
        "GET", "/v1/items/{id}", "get_item", "Records",
        "An item with its live facts",
        "The catalogue entry, and its stock, price and flags as of now.",
        {200: Answer("The item.", dict[str, Any])},
        (_ITEM_PATH,),
        problems=(404,),
        access=READ,
    ),
    Route(
        "POST", "/v1/features", "post_features", "Features",
        "Feature values of entities",
        "For each entity the values of the named features (all, without names), as of one log "
        "offset and one moment, with the age of each: how long ago the latest event was that it "
        "counts.",
        {200: Answer("The values.", FeatureAnswer)},
        body=Body(FeatureRequest, {"entities": [{"item": "85123A", "session": "s1"}],
                                   "features": ["item_clicks_1h", "session_intent"]}),
        problems=(404,),
        access=READ,
    ),
    Route(
        "POST", "/get-online-features", "post_feast_features", "Features",
        "The same, as Feast's feature server answers it",
        "For Feast clients with a remote online store. Join keys are `item`, `user`, `session`, "
        "`country`, `device`, or these with `_id`; the names of views do not matter.",
        {200: Answer("The values, in columns.", FeastAnswer)},
        body=Body(FeastRequest, {"entities": {"item_id": ["85123A"]},
                                 "features": ["items:item_clicks_1h"]}),
        problems=(404,),
        access=READ,
    ),
    Route(
        "GET", "/v1/decisions/{id}/explain", "explain_decision", "Pages",
        "Every candidate of one decision",
        "The decision is made again from the log as it was then: each candidate's score, the part "
        "of each source, features, and why it was dropped. Takes as long as the log is behind the "
        "nearest checkpoint.",
        {200: Answer("The decision, explained.", Explanation)},
        (Parameter("id", "path", Id, "The decision of an answer."),),
        problems=(404,),
        access=ADMIN,
    ),
    Route(
        "GET", "/v1/decisions/{id}", "get_decision", "Pages",
        "The record of one decision",
        "What was asked, the offset it was answered as of, and what came out.",
        {200: Answer("The decision record.", dict[str, Any])},
        (Parameter("id", "path", Id, "The decision of an answer."),),
        problems=(404,),
        access=ADMIN,
    ),
    Route(
        "GET", "/metrics", "metrics", "Operation",
        "Counters and latencies for Prometheus",
        "Requests, page reads, records, commits, event-loop lag, offsets.",
        {200: Answer("Prometheus text format.", str, TEXT)},
        access=("read", "admin"),
    ),
    Route(
        "GET", "/healthz", "healthz", "Operation",
        "Does the process run?",
        "Always 200 while it does, also before the log is folded.",
        {200: Answer("It runs.", Health)},
        access=OPEN,
    ),
    Route(
        "GET", "/readyz", "readyz", "Operation",
        "Can it answer pages?",
        "503 with the progress until the log is folded.",
        {200: Answer("It can.", Ready)},
        problems=(503,),
        access=OPEN,
    ),
    Route(
        "GET", "/openapi.json", "openapi", "Operation",
        "This interface as OpenAPI 3.1",
        "Generated from the types that the server checks requests with.",
        {200: Answer("The document.", dict[str, Any])},
        access=OPEN,
    ),
    Route(
        "GET", "/docs", "docs", "Operation",
        "This interface for people",
        "One page, no external assets.",
        {200: Answer("The page.", str, HTML)},
        access=OPEN,
    ),
    Route(
        "GET", "/", "landing", "Operation",
        "Where to begin",
        "The state of the server and the first commands to try.",
        {200: Answer("The page.", str, HTML)},
        access=OPEN,
    ),
    *CONTRACT_ROUTES,
    *MODEL_ROUTES,
)  # fmt: skip
