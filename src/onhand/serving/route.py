"""What a row of the route table says."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from onhand.serving.keys import Role

__all__ = [
    "ADMIN",
    "ANY_KEY",
    "HTML",
    "INGEST",
    "JSON",
    "NDJSON",
    "OPEN",
    "PROBLEM",
    "READ",
    "SCHEMA_REGISTRY",
    "TEXT",
    "Access",
    "Answer",
    "Body",
    "Parameter",
    "Route",
]

Access = tuple[Role, ...]

OPEN: Final[Access] = ()
INGEST: Final[Access] = ("ingest",)
READ: Final[Access] = ("read",)
ADMIN: Final[Access] = ("admin",)
ANY_KEY: Final[Access] = ("ingest", "read", "admin")

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
PROBLEM: Final = "application/problem+json"
SCHEMA_REGISTRY: Final = "application/vnd.schemaregistry.v1+json"
TEXT: Final = "text/plain"
HTML: Final = "text/html"


_WITH_KEY: Final = (400, 401, 403, 429, 503)
_WITH_BODY: Final = (400, 408, 413, 415)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named input in the path or the query string."""

    name: str
    place: Literal["path", "query"]
    type: Any
    description: str
    default: Any = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes: records of one type, alone, as an array or one a line; or one object.

    `media` are the types it takes besides JSON.
    """

    type: Any
    example: Any
    batch: bool = False
    without: tuple[str, ...] = ()
    media: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers with one status."""

    description: str
    type: Any = None
    media: str = JSON


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path.

    `name` is its operation id, and finds its handler; `problems` are the statuses it refuses
    with, beside those that all such routes have; `curl` is an address to try where the path alone
    is none; `access` says which keys it answers: those of administrators, unless the route says
    otherwise.
    """

    method: str
    path: str
    name: str
    group: str
    summary: str
    detail: str
    answers: dict[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    curl: str = ""
    problems: tuple[int, ...] = ()
    access: Access = ADMIN

    @property
    def refusals(self) -> list[int]:
        """The statuses of all its problems."""
        with_key = _WITH_KEY if self.access else ()
        with_body = _WITH_BODY if self.body is not None else ()
        return sorted({*self.problems, *with_key, *with_body})
