"""Load the shop into a fresh store: its catalogue, and its history up to the opening."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from onhand.contracts.errors import Invalid
from onhand.contracts.records import Record
from onhand.engine import Engine
from onhand.offline.shop.play import Play

__all__ = ["Loaded", "clear_folder", "load_shop"]

BATCH = 5_000
MARK = "demo.json"


class Loaded(NamedTuple):
    """What a store was loaded with."""

    items: int
    events: int
    seconds: float


def clear_folder(folder: Path) -> None:
    """Make the folder an empty demo folder. Raises `Invalid` for one with other things in it."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / MARK
    if not mark.exists() and any(folder.iterdir()):
        raise Invalid(
            "folder_in_use",
            f"{folder} holds something that no demo made; name an empty or a new folder",
        )
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    mark.write_text(json.dumps({"made_by": "onhand demo", "cleared_by": "the next onhand demo"}))


def load_shop(folder: Path, play: Play, progress: Callable[[int, int], object]) -> Loaded:
    """Ingest catalogue and history, and checkpoint; `progress` hears of how many events how many
    are in."""
    started_s = time.monotonic()
    items, past = play.items(), list(play.past_events())
    engine = Engine.open(folder)
    events = 0
    try:
        for batch in batches(items):
            ingest(engine, batch)
        for batch in batches(past):
            ingest(engine, batch)
            events += len(batch)
            progress(events, len(past))
    finally:
        engine.close()
    return Loaded(len(items), events, time.monotonic() - started_s)


def ingest(engine: Engine, batch: list[Record]) -> None:
    """Ingest a batch of which nothing may be refused."""
    report = engine.ingest(batch)
    if report.rejected:
        raise Invalid("shop_refused", f"the store refused a record: {report.errors[0].message}")


def batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists of at most `BATCH`."""
    rest = iter(records)
    while batch := list(islice(rest, BATCH)):
        yield batch
