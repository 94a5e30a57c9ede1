"""Redelivery: dead letters back into the log, each exactly once.

    settle ─▶ prepare ─▶ admit, commit, apply ─▶ finish
    what a    parse by     one batch of the       letters that are in leave the store,
    crash     today's      log: the records, and  the others get their new reason
    left      contract     which letters they are

A letter leaves its store after its records are durable. A crash between the two leaves it in
both; the record of the last batch, which the log holds beside the records, says so, and `settle`
forgets it. At most one batch can be in that state, because the next one begins with `settle`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec

from onhand.admission import RETRIED, Retry
from onhand.contracts.answers import IngestReport
from onhand.contracts.batch import LIMITS, Limits, parse_item_patch
from onhand.contracts.errors import Fault, Invalid
from onhand.contracts.formats import MEDIA_TYPES, MERGE_PATCH, parse
from onhand.contracts.letters import DeadLetter, LetterFilter, RetryReport
from onhand.contracts.records import Record
from onhand.contracts.registry import Registry
from onhand.engine import Engine
from onhand.log.dead_letters import DeadLetterStore

__all__ = ["Attempt", "finish", "prepare", "redeliver", "settle", "start_report", "sum_up"]

BATCH_LETTERS: Final = 200


class Attempt(NamedTuple):
    """A batch of letters: those that can be read now, and those that still cannot."""

    read: list[DeadLetter]
    retry: Retry
    refused: list[DeadLetter]
    last: int


def settle(engine: Engine, store: DeadLetterStore) -> None:
    """Forget the letters that the log took before a crash kept them from leaving."""
    taken = engine.controls.get(RETRIED)
    if taken is not None and taken["token"] == store.token:
        store.remove(cast("list[int]", taken["numbers"]))


def prepare(
    registry: Registry,
    store: DeadLetterStore,
    which: LetterFilter,
    after: int,
    now_ms: int,
    limits: Limits = LIMITS,
) -> Attempt | None:
    """Read the next letters behind number `after` by today's contracts; None when there are none
    left."""
    letters = store.read(which, BATCH_LETTERS, after)
    if not letters:
        return None
    read: list[DeadLetter] = []
    batches: list[tuple[int, Sequence[Record]]] = []
    refused: list[DeadLetter] = []
    for letter in letters:
        outcome = _read(registry, letter, now_ms, limits)
        if isinstance(outcome, Fault):
            refused.append(_refile(registry, letter, outcome))
        else:
            read.append(letter)
            batches.append((letter.number, outcome))
    return Attempt(read, Retry(store.token, batches), refused, letters[-1].number)


def finish(
    registry: Registry, store: DeadLetterStore, attempt: Attempt, report: IngestReport
) -> None:
    """Let go of the letters that are in the log now, and file the others anew."""
    refused = list(attempt.refused)
    out: set[int] = set()
    for error in report.errors:
        letter = attempt.read[error.index]
        out.add(letter.number)
        refused.append(_refile(registry, letter, Fault(error.code, error.message)))
    store.remove([letter.number for letter in attempt.read if letter.number not in out])
    store.refile(refused)


def start_report() -> RetryReport:
    """The report of a retry that has done nothing yet."""
    return RetryReport(0, 0, 0, 0, 0)


def sum_up(total: RetryReport, attempt: Attempt, report: IngestReport) -> RetryReport:
    """Add what became of a batch to what became of those before it."""
    return RetryReport(
        total.accepted + report.accepted,
        total.duplicates + report.duplicates,
        total.refused + report.rejected + len(attempt.refused),
        0,
        report.offset,
    )


def redeliver(
    engine: Engine, store: DeadLetterStore, which: LetterFilter, now_ms: int
) -> RetryReport:
    """Put all letters that match, and can be read now, into the log of an engine of one's own."""
    settle(engine, store)
    total, after = start_report(), 0
    while (attempt := prepare(engine.contracts, store, which, after, now_ms)) is not None:
        report = engine.write([attempt.retry], now_ms)[0]
        finish(engine.contracts, store, attempt, report)
        total, after = sum_up(total, attempt, report), attempt.last
    return msgspec.structs.replace(total, remaining=store.count(which), offset=engine.offset)


def _read(
    registry: Registry, letter: DeadLetter, now_ms: int, limits: Limits
) -> Sequence[Record] | Fault:
    if letter.truncated:
        return Fault("truncated", "Only the beginning of it was kept; send the original again.")
    if letter.content_type == MERGE_PATCH:
        return _read_patch(letter, now_ms)
    media = MEDIA_TYPES.get(letter.content_type)
    if media is None:
        return Fault("content_type", f"Content-type {letter.content_type!r} is not known.")
    try:
        kind = registry.version(letter.contract).kind
        parsed = parse(registry, kind, media, letter.raw, now_ms, limits)
    except Invalid as error:
        return Fault(error.code, error.message)
    if parsed.refused:
        return parsed.refused[0].fault
    return cast("Sequence[Record]", parsed.records)


def _read_patch(letter: DeadLetter, now_ms: int) -> Sequence[Record] | Fault:
    item = letter.source.removeprefix("/v1/items/")
    try:
        return [parse_item_patch(letter.raw, item, now_ms)]
    except Invalid as error:
        return Fault(error.code, error.message)


def _refile(registry: Registry, letter: DeadLetter, fault: Fault) -> DeadLetter:
    contract = registry.version(fault.contract or letter.contract)
    return msgspec.structs.replace(
        letter,
        contract=contract.name,
        version=contract.version,
        code=fault.code,
        message=fault.message,
        field=fault.field,
    )
