"""The same sale without foresight: pages that were clicked on, made again, and the same clicks.

Any decision can be made again: from the state as of its offset, at its moment, with the list it
began from. Here it is made without foresight, and the visitor clicks on the same position at the
same time. So both see one demand, one stock and one visitor, and nothing but the items of the page
differs. A click is a dead end where the item is sold out or held as of what was acknowledged then.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, Struct

from onhand.contracts.records import Signal
from onhand.decision.models import Models
from onhand.decision.records import DecisionRecord
from onhand.log.decisions import read_decision
from onhand.offline.replay import replay
from onhand.offline.simulation.score import Clicked
from onhand.past import Past

__all__ = ["WITHOUT", "Foresight", "compare_foresight"]

WITHOUT: Final = "Onhand without foresight"

MOST: Final = 5_000
"""Clicks that are looked at, evenly spread over all."""

_decode: Final = msgspec.json.Decoder(DecisionRecord).decode


class Foresight(Struct, frozen=True):
    """Dead ends among `clicks`, on the pages as they were shown and as they would have been
    without foresight; `changed` counts pages that would have been others."""

    clicks: int
    dead_ends: int
    dead_ends_without: int
    changed: int


def compare_foresight(
    past: Past,
    models: Models,
    decisions: Path,
    after: int,
    clicked: Sequence[Clicked],
) -> Foresight:
    """Judge the clicks of a sale that the log holds behind offset `after`, by the records in the
    store `decisions`."""
    clicked = clicked[:: max(-(-len(clicked) // MOST), 1)]
    records: dict[str, DecisionRecord] = {}
    for click in clicked:
        body = read_decision(decisions, click.decision)
        if body is not None:
            records[click.decision] = _decode(body)
    blind = [msgspec.structs.replace(record, foresight=False) for record in records.values()]
    without: dict[str, list[str]] = {}
    for made in replay(blind, past, models):
        without[made.answer.decision] = [item.id for item in made.answer.items]
    shown = {id: [item.id for item in record.answer.items] for id, record in records.items()}
    judged = [click for click in clicked if click.decision in records]
    return Foresight(
        len(judged),
        _count_dead_ends(past, after, judged, shown),
        _count_dead_ends(past, after, judged, without),
        sum(without[id] != items for id, items in shown.items()),
    )


def _count_dead_ends(
    past: Past, after: int, clicked: Sequence[Clicked], pages: Mapping[str, list[str]]
) -> int:
    """Count the clicks, in the order of their offsets, on what was sold out or held by then."""
    sold_out: set[str] = set()
    held: set[str] = set()
    dead_ends = at = 0
    for offset, signal in _signals(past, after):
        while at < len(clicked) and clicked[at].as_of < offset:
            item = _item(clicked[at], pages)
            dead_ends += item in sold_out or item in held
            at += 1
        if signal.stock is not UNSET:
            (sold_out.add if signal.stock == 0 else sold_out.discard)(signal.item)
        if signal.flags is not UNSET:
            (held.add if signal.flags else held.discard)(signal.item)
    gone = sold_out | held
    return dead_ends + sum(_item(click, pages) in gone for click in clicked[at:])


def _signals(past: Past, after: int) -> Iterator[tuple[int, Signal]]:
    for batch in past.records(after):
        for offset, record in enumerate(batch.records, batch.first):
            if type(record) is Signal:
                yield offset, record


def _item(click: Clicked, pages: Mapping[str, list[str]]) -> str:
    items = pages[click.decision]
    return items[min(click.position, len(items) - 1)] if items else ""
