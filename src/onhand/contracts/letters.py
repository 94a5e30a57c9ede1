"""Dead letters: records that were refused, kept as they came."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from msgspec import Meta, Struct

from onhand.contracts.batch import Refusal
from onhand.contracts.gate import Gate
from onhand.steps import STEP_RECORDS, Steps

__all__ = ["DeadLetter", "LetterFilter", "LetterStats", "RetryReport", "letters_of"]


class DeadLetter(Struct, frozen=True, gc=False):
    """One refused record, or a whole body that could not be taken apart.

    `raw` is what arrived, up to the store's limit (`truncated` when it was longer), in
    `content_type`; `contract` and `version` are those it was judged by, `field` the one at fault
    where it is one, `source` the route or file it came by. `number` is 0 until it is kept.
    """

    contract: str
    version: int
    code: str
    message: str
    field: str | None
    source: str
    content_type: str
    time_ms: int
    raw: bytes
    truncated: bool = False
    number: int = 0


def letters_of(
    gate: Gate[Any],
    refused: Iterable[Refusal],
    part: Callable[[int], bytes],
    source: str,
    content_type: str,
    now_ms: int,
) -> Steps[list[DeadLetter]]:
    """Return the letters of what a gate refused; `part` gives the bytes at a place."""
    letters: list[DeadLetter] = []
    for count, refusal in enumerate(refused, 1):
        if count % STEP_RECORDS == 0:
            yield
        fault = refusal.fault
        contract = gate.judge(fault)
        letters.append(
            DeadLetter(
                contract.name,
                contract.version,
                fault.code,
                fault.message,
                fault.field,
                source=source,
                content_type=content_type,
                time_ms=now_ms,
                raw=part(refusal.place),
            )
        )
    return letters


class LetterFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters: all that match every field that is given. `number` names one."""

    contract: Annotated[str, Meta(max_length=64)] | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None
    source: Annotated[str, Meta(max_length=512)] | None = None
    number: Annotated[int, Meta(ge=1, le=2**62)] | None = None


class LetterStats(Struct, frozen=True):
    """How many there are. `left` went by age or size before anyone retried or purged them."""

    letters: int
    bytes: int
    left: int
    oldest_ms: int | None
    by_code: list["CodeCount"]


class CodeCount(Struct, frozen=True):
    """How many were refused under one contract for one reason."""

    contract: str
    version: int
    code: str
    letters: int


class RetryReport(Struct, frozen=True):
    """What became of the letters of a retry: put in, duplicates of what is in already, or refused
    again and kept with the new reason. `remaining` still match the filter."""

    accepted: int
    duplicates: int
    refused: int
    remaining: int
    offset: int
