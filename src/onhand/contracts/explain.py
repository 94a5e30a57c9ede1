"""From a decoder's error to a fault that names the field and the value."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from onhand.contracts.errors import Fault

__all__ = ["DECODE_ERRORS", "Patience", "brief", "explain", "explain_object", "shorten"]

DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_PLACE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_CODES: Final = (
    ("Object missing required field", "missing_field"),
    ("Number out of range", "range"),
    ("Integer value out of range", "range"),
    ("Invalid", "value"),
)


class Patience:
    """How many records of a body are explained in full, value and all. The others get code and
    field only: a body of nothing but bad records must not keep the pages waiting."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def explain(error: Exception, part: bytes | msgspec.Raw, patience: Patience | None = None) -> Fault:
    """Say which field of a JSON record is wrong, and what it holds."""
    if patience is not None and type(error) is msgspec.ValidationError:
        if not patience.left:
            return brief(str(error))
        patience.left -= 1
    if isinstance(error, RecursionError):
        return Fault("too_deep", "The record is nested too deeply; records are flat.")
    if isinstance(error, UnicodeDecodeError):
        return Fault("not_utf8", "A string of the record is not UTF-8.")
    if not isinstance(error, msgspec.ValidationError):
        return Fault("malformed", f"The record is not JSON: {error}.")
    return _explain(str(error), lambda: msgspec.json.decode(part))


def explain_object(flaw: str, value: Any, patience: Patience | None = None) -> Fault:
    """Say which field of a decoded object is wrong, and what it holds; `flaw` is the error of a
    conversion."""
    if patience is not None:
        patience.left -= 1
    return _explain(flaw, lambda: value)


def shorten(value: bytes) -> str:
    """Return the beginning of some JSON as text."""
    text = value[:80].decode("utf-8", "replace")
    return text if len(text) <= 60 else text[:57] + "..."


def _explain(text: str, whole: Callable[[], Any]) -> Fault:
    found = _PLACE.fullmatch(text)
    if found is None:
        return Fault("value", text)
    what, path = found["what"], found["path"]
    code = _code(what)
    missing = _MISSING.fullmatch(what)
    if not path:
        return Fault(code, f"{what}.", missing["field"] if missing else None)
    field = path.partition("[")[0]
    if found["key"]:
        return Fault(code, f"A key in `{path}`: {what}.", field)
    value = _value_at(whole, path)
    if missing:
        field = f"{path}.{missing['field']}"
    return Fault(code, f"`{path}`: {what}" + (f"; it is {value}." if value else "."), field)


@lru_cache(maxsize=1024)
def brief(text: str) -> Fault:
    """Return code and field of an error, without the value."""
    return _explain(text, lambda: None)


def _code(what: str) -> str:
    for beginning, code in _CODES:
        if what.startswith(beginning):
            return code
    if "of length" in what:
        return "length"
    return "range" if re.search(r"[<>]=? -?[\d.]", what) else "wrong_type"


def _value_at(whole: Callable[[], Any], path: str) -> str | None:
    """Find the offending value by its path, shortened; None where it cannot be told."""
    try:
        value = whole()
        for step in re.findall(r"[^.\[\]]+", path):
            value = value[int(step)] if step.isdigit() else value[step]
        return shorten(msgspec.json.encode(value))
    except (*DECODE_ERRORS, KeyError, IndexError, TypeError, ValueError):
        return None
