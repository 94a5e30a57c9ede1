"""Query strings to requests, by hand: the page read has no microseconds for more."""

from collections.abc import Collection
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from onhand.contracts.errors import Invalid
from onhand.contracts.requests import RecommendRequest
from onhand.retrieval.filters import parse_filter

__all__ = ["RECOMMEND_PARAMETERS", "SIMILAR_PARAMETERS", "parse_recommend_query", "parse_similar_n"]

RECOMMEND_PARAMETERS: Final = (
    "user",
    "session",
    "n",
    "item",
    "exclude",
    "device",
    "country",
    "referrer",
    "filter",
    "per_brand",
    "per_category",
    "variety",
)
SIMILAR_PARAMETERS: Final = ("n",)

_CONTEXT: Final = frozenset(("device", "country", "referrer"))
_KNOWN: Final = dict.fromkeys(RECOMMEND_PARAMETERS)
"""In their order, and found at once."""
_convert = msgspec.convert


def parse_recommend_query(slot: str, query: bytes) -> RecommendRequest:
    """Build the request for `slot`. An empty value counts as not given. Raises `Invalid`, and
    `Refused` for a wrong filter."""
    fields: dict[str, Any] = {"slot": slot}
    context: dict[str, str] = {}
    for name, value in _pairs(query, _KNOWN):
        if name in _CONTEXT:
            context[name] = value
        elif name == "exclude":
            fields.setdefault("exclude", []).extend(part for part in value.split(",") if part)
        elif name in fields:
            _refuse_repeated(name)
        else:
            fields[name] = value
    if context:
        fields["context"] = context
    try:
        request: RecommendRequest = _convert(fields, RecommendRequest, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, fields) from None
    if request.filter is not None:
        parse_filter(request.filter)
    return request


def parse_similar_n(query: bytes, default: int = 10) -> int:
    """Read `n`, 1 to 100. Raises `Invalid`."""
    n = default
    for _, value in _pairs(query, SIMILAR_PARAMETERS):
        if not (
            value.isdecimal() and value.isascii() and len(value) <= 3 and 1 <= int(value) <= 100
        ):
            raise Invalid("parameter", f"`n` is {value[:60]!r}; send a whole number from 1 to 100.")
        n = int(value)
    return n


def _pairs(query: bytes, known: Collection[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    try:
        text = query.decode()
        is_plain = "%" not in text and "+" not in text
        for pair in text.split("&"):
            name, _, value = pair.partition("=")
            if name not in known and pair:
                _refuse_unknown(name, known)
            if value:
                pairs.append((name, value if is_plain else unquote_plus(value, errors="strict")))
    except UnicodeDecodeError:
        raise Invalid(
            "not_utf8", "The query string is not UTF-8; percent-encode it as UTF-8."
        ) from None
    return pairs


def _refuse_unknown(name: str, known: Collection[str]) -> None:
    names = ", ".join(f"`{each}`" for each in known)
    raise Invalid("unknown_parameter", f"There is no parameter {name[:60]!r}; known are {names}.")


def _refuse_repeated(name: str) -> None:
    raise Invalid("repeated_parameter", f"`{name}` is given more than once; send it once.")


def _invalid(error: msgspec.ValidationError, fields: dict[str, Any]) -> Invalid:
    what, _, place = str(error).partition(" - at `$.")
    name = place.rstrip("`").removeprefix("context.")
    value = fields.get(name)
    shown = f"; it is {value[:60]!r}" if isinstance(value, str) else ""
    return Invalid("parameter", f"`{name}`: {what}{shown}.")
