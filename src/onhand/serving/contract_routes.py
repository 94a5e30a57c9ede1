"""The rows of the route table about contracts, dead letters, and clients of other systems."""

from dataclasses import replace
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from onhand.contracts.contract import Contract, Draft
from onhand.contracts.letters import LetterFilter, LetterStats, RetryReport
from onhand.serving.route import (
    ADMIN,
    ANY_KEY,
    INGEST,
    SCHEMA_REGISTRY,
    Answer,
    Body,
    Parameter,
    Route,
)

__all__ = ["CONTRACT_ROUTES"]


class Success(Struct):
    """The messages were taken."""

    success: bool


class Purged(Struct):
    """How many dead letters were forgotten."""

    purged: int


_CONTRACTS: Final = "Contracts"
_LETTERS: Final = "Dead letters"
_SEGMENT: Final = "Segment"

_NAME = Parameter(
    "name", "path", str, "`events`, `items`, `signals`, or an event type of the app's own."
)
_VERSION = Parameter(
    "version",
    "query",
    Annotated[int, Meta(ge=1, le=2**31)],
    "The version; without it the latest.",
)
_FORMAT = Parameter(
    "format", "query", str,
    "`json` for JSON Schema, `avro`, `protobuf`, or `contract` for all it says.", "contract",
)  # fmt: skip
_NUMBER = Parameter("number", "path", Annotated[int, Meta(ge=1)], "The letter's number.")
_WHICH = (
    Parameter("contract", "query", str, "Only those of this contract."),
    Parameter("code", "query", str, "Only those refused for this reason."),
    Parameter("source", "query", str, "Only those that came by this route or file."),
    Parameter("limit", "query", Annotated[int, Meta(ge=1, le=1000)], "How many at most.", 100),
    Parameter("after", "query", Annotated[int, Meta(ge=0)], "Only those with higher numbers.", 0),
)
_SUBJECT = Parameter("subject", "path", str, "A subject: `events-value`, `items-protobuf-value`.")
_SUBJECT_VERSION = Parameter("version", "path", str, "A version, or `latest`.")
_SCHEMA = Answer("The schema.", dict[str, Any])
_DRAFT = {"fields": {"time": {"type": "time", "units": ["milliseconds", "nanoseconds"]}}}
_LOOKUP = {"schemaType": "AVRO", "schema": '"string"'}


def _segment(path: str, name: str, what: str) -> Route:
    message = {"userId": "u1", "event": "Product Viewed", "properties": {"product_id": "85123A"}}
    batch = {"batch": [{"type": "track", "messageId": "m1", **message}]}
    return Route(
        "POST", path, name, _SEGMENT,
        f"Take {what} of the Segment tracking API",
        "E-commerce events become ours, all others are kept under their own names. A write key is "
        "an `ingest` key, by basic authentication.",
        {200: Answer("Taken; what was refused is among the dead letters.", Success)},
        body=Body(dict[str, Any], batch if path.endswith("/batch") else message),
        access=INGEST,
    )  # fmt: skip


def _registry(
    method: str,
    path: str,
    name: str,
    summary: str,
    detail: str,
    answer: Answer,
    parameters: tuple[Parameter, ...] = (),
    curl: str = "",
    problems: tuple[int, ...] = (404,),
) -> Route:
    return Route(
        method, path, name, "Schema registry", summary, detail,
        {200: replace(answer, media=SCHEMA_REGISTRY)},
        parameters,
        Body(dict[str, Any], _LOOKUP) if method == "POST" else None,
        curl,
        problems,
        ANY_KEY,
    )  # fmt: skip


CONTRACT_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", "/v1/contracts", "list_contracts", _CONTRACTS,
        "What records must look like",
        "The latest version of every contract.",
        {200: Answer("The contracts.", list[Contract])},
        access=ANY_KEY,
    ),
    Route(
        "GET", "/v1/contracts/{name}", "get_contract", _CONTRACTS,
        "One contract, or its schema for producers",
        "In the form that `format` names.",
        {200: Answer("The contract, or a schema made from it.", dict[str, Any])},
        (_NAME, _VERSION, _FORMAT),
        curl="/v1/contracts/events?format=avro",
        problems=(404,),
        access=ANY_KEY,
    ),
    Route(
        "POST", "/v1/contracts/{name}", "post_contract", _CONTRACTS,
        "Register the next version",
        "Say only what changes. A version that would refuse what an older one took is refused "
        "with the field and the reason.",
        {201: Answer("The new version; it holds from now on.", Contract)},
        (_NAME,),
        Body(Draft, _DRAFT),
        curl="/v1/contracts/events",
        problems=(404, 409),
        access=ADMIN,
    ),
    Route(
        "POST", "/v1/contracts/{name}/check", "check_contract", _CONTRACTS,
        "Check what would become the next version",
        "As registering it, but nothing is registered.",
        {200: Answer("What the version would be.", Contract)},
        (_NAME,),
        Body(Draft, _DRAFT),
        curl="/v1/contracts/events/check",
        problems=(404, 409),
        access=ADMIN,
    ),
    Route(
        "GET", "/v1/dead-letters", "list_dead_letters", _LETTERS,
        "What was refused",
        "The oldest first. `raw` is base64 of the bytes as they came.",
        {200: Answer("The letters.", list[dict[str, Any]])},
        _WHICH,
        access=ADMIN,
    ),
    Route(
        "GET", "/v1/dead-letters/stats", "dead_letter_stats", _LETTERS,
        "How much was refused, and why",
        "Counts by contract and reason.",
        {200: Answer("The counts.", LetterStats)},
        access=ADMIN,
    ),
    Route(
        "GET", "/v1/dead-letters/{number}", "get_dead_letter", _LETTERS,
        "One refused record",
        "With its bytes as they came.",
        {200: Answer("The letter.", dict[str, Any])},
        (_NUMBER,),
        curl="/v1/dead-letters/1",
        problems=(404,),
        access=ADMIN,
    ),
    Route(
        "POST", "/v1/dead-letters/retry", "retry_dead_letters", _LETTERS,
        "Put refused records in",
        "Those that today's contracts can read go in exactly once, also across a crash; the "
        "others stay, with the reason that holds now. An empty object means all.",
        {200: Answer("What became of them.", RetryReport)},
        body=Body(LetterFilter, {"code": "time_unit"}),
        access=ADMIN,
    ),
    Route(
        "POST", "/v1/dead-letters/purge", "purge_dead_letters", _LETTERS,
        "Forget refused records",
        "All that match; an empty object means all.",
        {200: Answer("How many there were.", Purged)},
        body=Body(LetterFilter, {"code": "wrong_type"}),
        access=ADMIN,
    ),
    _segment("/v1/batch", "segment_batch", "a batch"),
    _segment("/v1/track", "segment_track", "an event"),
    _segment("/v1/page", "segment_page", "a page view"),
    _segment("/v1/screen", "segment_screen", "a screen view"),
    _segment("/v1/identify", "segment_identify", "who a visitor is"),
    _segment("/v1/group", "segment_group", "a group"),
    _segment("/v1/alias", "segment_alias", "an alias"),
    _registry(
        "GET", "/subjects", "list_subjects",
        "The subjects, for serializers of Confluent's clients",
        "`events-value` has the Avro schemas, `events-protobuf-value` and `events-json-value` the "
        "others.",
        Answer("The subjects.", list[str]),
    ),
    _registry(
        "GET", "/subjects/{subject}/versions", "list_subject_versions",
        "The versions of a subject",
        "Those of its contract.",
        Answer("The versions.", list[int]),
        (_SUBJECT,),
        curl="/subjects/events-value/versions",
    ),
    _registry(
        "GET", "/subjects/{subject}/versions/{version}", "get_subject_version",
        "One version of a subject",
        "With its schema and the id that the wire format carries.",
        _SCHEMA,
        (_SUBJECT, _SUBJECT_VERSION),
        curl="/subjects/events-value/versions/latest",
    ),
    _registry(
        "POST", "/subjects/{subject}", "find_subject_schema",
        "Which version has this schema?",
        "Schemas are compared by their content.",
        _SCHEMA,
        (_SUBJECT,),
        curl="/subjects/events-value",
        problems=(404,),
    ),
    _registry(
        "POST", "/subjects/{subject}/versions", "register_subject_schema",
        "The id of a schema that is registered",
        "Producers that register their schema find it here; new versions are registered as "
        "contracts.",
        Answer("The id.", dict[str, int]),
        (_SUBJECT,),
        curl="/subjects/events-value/versions",
        problems=(404, 422),
    ),
    _registry(
        "GET", "/schemas/ids/{number}", "get_schema",
        "The schema of an id",
        "Ids follow from contract, version and format: the same on every server of a log.",
        _SCHEMA,
        (Parameter("number", "path", Annotated[int, Meta(ge=1)], "The id."),),
        curl="/schemas/ids/1",
    ),
    _registry(
        "GET", "/schemas/types", "list_schema_types",
        "The kinds of schema",
        "Avro, Protobuf and JSON Schema.",
        Answer("The kinds.", list[str]),
        problems=(),
    ),
)  # fmt: skip
