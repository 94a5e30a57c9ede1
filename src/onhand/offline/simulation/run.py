"""A whole run: load a fresh store, start the server, play the sale, break things, count.

At the end the server stops, after a fault by SIGKILL, and starts again on what is on its disk. An
event that was acknowledged and is not in the log then is lost.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import numpy as np
from msgspec import Struct

from onhand.contracts.models import DEFAULT, ModelEntry
from onhand.contracts.records import Event
from onhand.log.sqlite import SqliteReader
from onhand.offline.shop.server import HOST, Server, ServerError, free_port
from onhand.offline.simulation.load import EVENT_PREFIX, Orders
from onhand.offline.simulation.plan import Phase, Shop
from onhand.offline.simulation.score import STACKS, Clicked, Second, Total, Window
from onhand.offline.simulation.without import Foresight
from onhand.offline.simulation.yardstick import Yardstick

__all__ = ["DIRECT", "Fault", "Front", "Player", "Result", "Stretches", "run_sale"]

SLOWER: Final = 2.0
"""A second is as before a fault when its p99 is within this many times that of before."""
BEHIND: Final = re.compile(r"^onhand_(?:prepared_reads|scoring)_total\{(.*)\} (\S+)$", re.M)
STRETCHES: Final = re.compile(
    r'^onhand_event_loop_stretch(_processor)?_seconds_bucket\{le="(0\.002|\+Inf)"\} (\S+)$', re.M
)
LABEL: Final = re.compile(r'(?:outcome|list)="(\w+)"')
USUALLY: Final = 0.02
"""A second is as before when no more than this share more is degraded than ever was before."""
SETTLE_S: Final = 3.0
"""The first seconds of a run, which a healthy time is not taken from."""

LISTS_S: Final = 60.0
"""How long the first list may take."""

_decode: Final = msgspec.json.Decoder(Second | Total).decode


class Fault(Struct, frozen=True):
    """What goes wrong, from when on, for how long; `switched` says that it is broken in the running
    server, and does not come from outside. So long after it the load is as usual."""

    name: str
    at_s: float
    seconds: float
    switched: bool = True
    calm_s: float = 3600.0

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.at_s + self.seconds


class Front(Struct, frozen=True):
    """How pages reach the server: over so many connections, waiting so long for a free one.
    At a `punctual_rate` of pages a second and below (None: at any), the load comes before whatever
    else wants its processor."""

    connections: int = 704
    waits_s: float = 2.0
    punctual_rate: float | None = None


DIRECT: Final = Front()
"""Visitors who wait."""


class Stretches(Struct, frozen=True):
    """What the server did on its event loop beside pages: in so many stretches, so many of them
    longer than 2 ms, and those that had a processor for longer."""

    count: int = 0
    long: int = 0
    ran_long: int = 0


class Result(Struct):
    """What came of a run. `windows` are before, during and after the fault, where there was one,
    and what follows that; `lost` counts acknowledged events that a restarted server does not
    have."""

    seed: int
    phases: list[Phase]
    cores: int
    whole: Window
    seconds: list[Second]
    windows: list[Window]
    stacks: tuple[str, ...]
    sold_out: list[int]
    dead_ends: list[int]
    impressions: int
    clicks: int
    events: int
    acknowledged: int
    lost: int
    rejected: int
    lag_p99_ms: float
    load_processor_s: float
    error: str = ""
    behind: dict[str, int] = {}
    """What the server counted of the lists that the ranker makes behind the page: `made`, `failed`
    and the like, and the pages that began from a `fresh` list, a `stale` one, or `none`."""
    stretches: Stretches = Stretches()
    fault: Fault | None = None
    recovery_s: float | None = None
    """From the fault's end until pages were as before; None if they were not."""
    caught_up_s: float | None = None
    """From the fault's end until no record was refused any more."""
    foresight: Foresight | None = None
    """Dead ends with and without it."""

    @property
    def played_s(self) -> float:
        """How long the sale lasted."""
        return self.whole.end_s

    @property
    def good(self) -> bool:
        """Whether nothing sold out was shown, nothing refused and nothing lost."""
        return not self.error and not self.sold_out[0] and not self.lost and self.whole.pages > 0


class Player:
    """The process that plays; Ctrl-C is not for it."""

    def __init__(self, orders: Orders) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "onhand.offline.simulation.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(orders))
        self._process.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Ask it to end early, with a total."""
        self._process.terminate()

    def told(self) -> Iterator[Second | Total]:
        """What it tells, until the total."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield _decode(line)


def run_sale(
    folder: Path,
    shop: Shop,
    phases: Sequence[Phase],
    seed: int,
    on_second: Callable[[Second], None],
    fault: Fault | None = None,
    front: Front = DIRECT,
    marks_s: Sequence[float] = (),
    look_back: Callable[[int, list[Clicked]], Foresight] | None = None,
) -> Result:
    """Play a sale on the store in a folder; `on_second` hears how it goes, and `marks_s` are the
    ends of windows after the fault's. `look_back` judges the clicks again when the server has
    stopped; it is told the log's end before the sale.

    Ctrl-C ends it early, with the result so far. Raises `ServerError` when a process ends by
    itself.
    """
    begun = SqliteReader(folder / "log.db").last
    log = folder / "server.log"
    switched = fault if fault is not None and fault.switched else None
    environment = {"ONHAND_FAULTS": "true"} if switched is not None else None
    with Server(folder, free_port(0), log, environment) as server:
        server.wait_ready()
        _wait_for_lists(server)
        marks = [fault.at_s, fault.end_s, *marks_s] if fault is not None else []
        way = (front.connections, front.waits_s, front.punctual_rate)
        orders = Orders(server.port, shop, list(phases), seed, marks, *way)
        seconds, total = _play(orders, server, switched, on_second)
        counted = _read_metrics(server)
        if fault is None:
            server.stop()
        else:
            server.kill()
    if fault is not None:
        _start_again(folder, log, total.last_offset)
    acknowledged = np.unpackbits(np.frombuffer(total.acknowledged, np.uint8))[: total.events]
    found = _find_events(folder, begun, total.events)
    return Result(
        seed,
        list(phases),
        os.cpu_count() or 1,
        total.whole,
        seconds,
        total.windows if fault is not None else [],
        STACKS,
        [sum(second.sold_out[place] for second in seconds) for place in range(len(STACKS))],
        [sum(second.dead_ends[place] for second in seconds) for place in range(len(STACKS))],
        sum(second.impressions for second in seconds),
        sum(second.clicks for second in seconds),
        total.events,
        int(acknowledged.sum()),
        int((acknowledged > found).sum()),
        total.rejected,
        total.lag_p99_ms,
        total.processor_s,
        total.error,
        _count_behind(counted),
        _count_stretches(counted),
        fault,
        recovery_s(seconds, fault) if fault is not None else None,
        caught_up_s(seconds, fault) if fault is not None else None,
        look_back(begun, total.clicked) if look_back is not None else None,
    )


def recovery_s(seconds: Sequence[Second], fault: Fault) -> float | None:
    """Seconds from a fault's end until one in which pages are as before; None if there was none.

    As before: every page answered, 99% in time, none worse than the usual step, and p99 within
    twice that of the healthy seconds.
    """
    before = [s for s in seconds if SETTLE_S <= s.at_s < fault.at_s - 1] or list(seconds[:1])
    healthy_ms = float(np.median([second.p99_ms for second in before]))
    usual = max(degraded_share(second) for second in before)
    for second in seconds:
        if second.at_s >= fault.end_s and (
            second.answered
            and not second.failed
            and second.in_time >= 0.99 * second.answered
            and degraded_share(second) <= usual + USUALLY
            and second.p99_ms <= SLOWER * healthy_ms
        ):
            return second.at_s - fault.end_s
    return None


def caught_up_s(seconds: Sequence[Second], fault: Fault) -> float | None:
    """Seconds from a fault's end until the first behind which, until something new befalls the
    server, no record is put off or waits to be sent again: what was refused meanwhile is in. None
    if there was none."""
    calm = [s for s in seconds if fault.end_s <= s.at_s < fault.end_s + fault.calm_s]
    late = [s.at_s for s in calm if s.put_off or s.outside]
    caught_up_s = late[-1] + 1 - fault.end_s if late else 0.0
    return caught_up_s if calm and calm[-1].at_s not in late else None


def degraded_share(second: Second) -> float:
    """Answers that were not of the best step, of all."""
    return sum(second.degraded.values()) / max(second.answered, 1)


def _play(
    orders: Orders, server: Server, fault: Fault | None, on_second: Callable[[Second], None]
) -> tuple[list[Second], Total]:
    seconds: list[Second] = []
    with Yardstick() as yardstick, Player(orders) as player:
        told = player.told()
        while True:
            try:
                what = next(told, None)
                if isinstance(what, Total):
                    return seconds, what
                if what is None:
                    raise ServerError("the load ended by itself; its error stands above")
                what.work_us = yardstick.read_us()
                seconds.append(what)
                if fault is not None:
                    _switch(server, fault, what.at_s + 1)
                on_second(what)
                if not server.alive:
                    raise ServerError(f"the server ended by itself:\n{server.last_words()}")
            except KeyboardInterrupt:
                player.end()
                told = player.told()


def _switch(server: Server, fault: Fault, now_s: int) -> None:
    """Begin or end a fault when its second has come."""
    method = {int(fault.at_s): "PUT", int(fault.end_s): "DELETE"}.get(now_s)
    if method is None:
        return
    connection = HTTPConnection(HOST, server.port, timeout=10)
    try:
        connection.request(method, f"/faults/{fault.name}")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise ServerError(f"the fault could not be switched: {error}") from error
    finally:
        connection.close()
    if status != 204:
        raise ServerError(f"the server answered {status} to a fault's switch")


def _wait_for_lists(server: Server) -> None:
    """Return when lists are made behind the page, where a model is active: no shop opens a sale in
    the second in which its server starts."""
    models = msgspec.json.decode(_get(server, "/v1/models"), type=list[ModelEntry])
    if any(each.active and each.model != DEFAULT for each in models):
        until_s = time.monotonic() + LISTS_S
        while not _count_behind(_read_metrics(server)).get("made") and time.monotonic() < until_s:
            time.sleep(0.2)


def _read_metrics(server: Server) -> str:
    return _get(server, "/metrics").decode()


def _count_behind(metrics: str) -> dict[str, int]:
    """The server's own counts of its prepared lists, added up over other labels."""
    counts: dict[str, int] = {}
    for labels, count in BEHIND.findall(metrics):
        name = LABEL.findall(labels)[0]
        counts[name] = counts.get(name, 0) + int(float(count))
    return counts


def _count_stretches(metrics: str) -> Stretches:
    """The server's own counts of its event loop's stretches."""
    counts = {(ran, bound): int(float(count)) for ran, bound, count in STRETCHES.findall(metrics)}
    count = counts["", "+Inf"]
    ran_long = counts["_processor", "+Inf"] - counts["_processor", "0.002"]
    return Stretches(count, count - counts["", "0.002"], ran_long)


def _get(server: Server, path: str) -> bytes:
    connection = HTTPConnection(HOST, server.port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, HTTPException) as error:
        raise ServerError(f"the server did not answer {path}: {error}") from error
    finally:
        connection.close()


def _start_again(folder: Path, log: Path, last_offset: int) -> None:
    """Start a server on what is there; raise `ServerError` when it has not what it acknowledged."""
    with Server(folder, free_port(0), log) as server:
        server.wait_ready()
    if SqliteReader(folder / "log.db").last < last_offset:
        raise ServerError(f"offset {last_offset} was acknowledged, and the log ends before it")


def _find_events(folder: Path, after: int, events: int) -> np.ndarray:
    """Which of the sale's events are in the log, (events,) of 0 and 1."""
    found = np.zeros(events, np.uint8)
    for batch in SqliteReader(folder / "log.db").read(after):
        for record in batch.records:
            if isinstance(record, Event) and record.id and record.id.startswith(EVENT_PREFIX):
                found[int(record.id[len(EVENT_PREFIX) :])] = 1
    return found
