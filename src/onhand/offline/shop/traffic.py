"""Play moments against a server as live traffic, and check every answer.

One task paces the moments by the clock; pages are read when they are due whether or not earlier
ones were answered (an open loop); events and stock go out in batches every few milliseconds, as a
collector would send them. Another task follows single visitors: a click, its acknowledgement, and
the list that must have changed.
"""

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Iterator
from urllib.parse import urlencode

import msgspec

from onhand.contracts.answers import IngestReport, Recommendation
from onhand.contracts.records import Event, Item, Signal
from onhand.offline.shop.client import Client, Reply
from onhand.offline.shop.tally import Followed, Tally
from onhand.offline.shop.visits import Moment, Page

__all__ = ["Traffic", "recommend_path"]

TICK_S = 0.02
BATCH = 500
LATE_S = 0.25
FOLLOW_S = 1.5
PAGE_ITEMS = 8

RECOMMENDATION = msgspec.json.Decoder(Recommendation)
REPORT = msgspec.json.Decoder(IngestReport)
KEPT_OFF = re.compile(rb'^onhand_items_kept_off_total\{reason="sold_out"\} (\S+)', re.M)


class Traffic:
    """The live traffic of one run: `speed` shop seconds a second.

    Pages and writes go through clients of their own, so that no batch queues behind pages.
    """

    def __init__(
        self, pages: Client, writes: Client, moments: Iterator[Moment], speed: float, tally: Tally
    ) -> None:
        self._pages = pages
        self._writes = writes
        self._moments = moments
        self._speed = speed
        self._tally = tally
        self._events: list[Event] = []
        self._signals: list[Signal] = []
        self._items: list[Item] = []
        self._readings: set[asyncio.Task[None]] = set()
        self._popular: list[str] = []
        self.stop = asyncio.Event()

    async def run(self, seconds: float | None) -> None:
        """Play until `stop`, the time is over, or the server is gone."""
        workers = [
            asyncio.create_task(self._until_stop(work))
            for work in (
                self._pace(),
                self._collect(),
                self._stock(),
                self._follow(),
                self._watch(),
            )
        ]
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            self.stop.set()
        await asyncio.wait(workers, timeout=2)
        await asyncio.wait([*self._readings, asyncio.create_task(asyncio.sleep(0))], timeout=2)
        for task in (*workers, *self._readings):
            task.cancel()
        await asyncio.gather(*workers, *self._readings, return_exceptions=True)

    async def _until_stop(self, work: Awaitable[None]) -> None:
        """Do the work; if it fails, all of it ends, and the tally says why."""
        try:
            await work
        except Exception as error:  # whatever it is, the run must not go on as if all were well
            self._tally.error = self._tally.error or f"{type(error).__name__}: {error}"
            self.stop.set()

    async def _pace(self) -> None:
        """Hand out each moment when it is due."""
        start_s = time.monotonic()
        for at_ms, what in self._moments:
            due_s = start_s + at_ms / 1000 / self._speed
            wait_s = due_s - time.monotonic()
            if wait_s > 0.001:
                await asyncio.sleep(wait_s)
            elif wait_s < -LATE_S:
                self._tally.late += 1
                await asyncio.sleep(0)
            if self.stop.is_set():
                return
            self._tally.played_ms = at_ms
            self._hand_out(what)

    def _hand_out(self, what: Event | Signal | Item | Page) -> None:
        if isinstance(what, Page):
            reading = asyncio.create_task(self._until_stop(self._read(what)))
            self._readings.add(reading)
            reading.add_done_callback(self._readings.discard)
        elif isinstance(what, Event):
            self._events.append(what)
        elif isinstance(what, Signal):
            self._signals.append(what)
        else:
            self._items.append(what)

    async def _read(self, page: Page) -> None:
        """Read one page and check the answer."""
        asked_s = time.monotonic()
        reply = await self._pages.get(recommend_path(page))
        answered_s = time.monotonic()
        tally = self._tally
        if reply.status != 200:
            tally.failures += 1
            return
        answer = RECOMMENDATION.decode(reply.body)
        tally.pages.add(answered_s - asked_s)
        self._check(answer, asked_s)
        if page.slot == "home":
            tally.visitors += 1

    def _check(self, answer: Recommendation, asked_s: float) -> None:
        tally = self._tally
        tally.decisions += 1
        tally.impressions += len(answer.items)
        tally.tiers[answer.tier] += 1
        if answer.degraded is not None:
            tally.degraded[answer.degraded] += 1
        tally.sold_out_shown += tally.sold_out.shown([item.id for item in answer.items], asked_s)

    async def _collect(self) -> None:
        """Send the events of each tick, stamped with the actual time."""
        while not self.stop.is_set() or self._events:
            batch, self._events = self._events[:BATCH], self._events[BATCH:]
            if batch:
                await self._send_events(batch)
            if not self._events:
                await asyncio.sleep(TICK_S)

    async def _send_events(self, batch: list[Event]) -> IngestReport:
        now_ms = time.time_ns() // 1_000_000
        for event in batch:
            event.time = now_ms
        report = self._report(await self._writes.send("POST", "/v1/events", batch))
        tally = self._tally
        tally.events += report.accepted
        tally.purchases += sum(event.type == "purchase" for event in batch)
        self._popular = [e.item for e in batch if e.item is not None] or self._popular
        return report

    async def _stock(self) -> None:
        """Send new items and changed stock, one request after the other so that order holds."""
        while not self.stop.is_set() or self._signals:
            if self._items:
                items, self._items = self._items, []
                self._report(await self._writes.send("PUT", "/v1/items", items))
                self._tally.arrivals += len(items)
            batch, self._signals = self._signals[:BATCH], self._signals[BATCH:]
            if batch:
                await self._send_stock(batch)
            if not self._signals:
                await asyncio.sleep(TICK_S)

    async def _send_stock(self, batch: list[Signal]) -> None:
        tally = self._tally
        changes = [(signal.item, signal.stock) for signal in batch if isinstance(signal.stock, int)]
        tally.restocks += sum(tally.sold_out.send(item, stock) for item, stock in changes)
        self._report(await self._writes.send("POST", "/v1/signals", batch))
        now_s = time.monotonic()
        tally.signals += len(batch)
        for item, stock in changes:
            if tally.sold_out.acknowledge(item, stock, now_s):
                tally.sell_outs += 1
                tally.newest.appendleft((tally.played_ms, item))

    def _report(self, reply: Reply) -> IngestReport:
        if reply.status >= 300:
            raise RefusedError(f"the server answered {reply.status}: {reply.body[:300].decode()}")
        report = REPORT.decode(reply.body)
        self._tally.rejected += report.rejected
        self._tally.offset = max(self._tally.offset, report.offset)
        return report

    async def _follow(self) -> None:
        """Follow one visitor after the other for a few clicks each."""
        for number in itertools.count(1):
            session, clicks = f"followed-{number}", 0
            while clicks < 4:
                await self._pause(FOLLOW_S)
                if self.stop.is_set():
                    return
                if self._popular:
                    await self._click(session, self._popular[number * 7 % len(self._popular)])
                    clicks += 1

    async def _click(self, session: str, item: str) -> None:
        """The visitor's list, a click, and the list after it: it must have seen the click."""
        page = Page("home", session, None, "GB")
        before = await self._list(page)
        click = Event("click", None, session, item)
        report = await self._send_events([click])
        acknowledged_s = time.monotonic()
        after = await self._list(page)
        answered_s = time.monotonic() - acknowledged_s
        if after.as_of < report.offset:
            raise RefusedError(f"a list as of {after.as_of} missed the click at {report.offset}")
        self._tally.clicks.add(answered_s)
        self._tally.followed = Followed(
            session,
            item,
            [item.id for item in before.items],
            [(item.id, item.price, item.stock) for item in after.items],
            answered_s * 1000,
        )

    async def _list(self, page: Page) -> Recommendation:
        asked_s = time.monotonic()
        reply = await self._pages.get(recommend_path(page))
        if reply.status != 200:
            raise RefusedError(f"the server answered {reply.status} to a page read")
        answer = RECOMMENDATION.decode(reply.body)
        self._check(answer, asked_s)
        return answer

    async def _watch(self) -> None:
        """Read what the server counts itself: the sold-out items it kept off pages."""
        while not self.stop.is_set():
            reply = await self._writes.get("/metrics")
            kept = KEPT_OFF.search(reply.body)
            if kept:
                self._tally.kept_off = int(float(kept[1]))
            await self._pause(1)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.stop.wait()
        except TimeoutError:
            return


class RefusedError(Exception):
    """The server refused what it must take, or answered what it must not."""


def recommend_path(page: Page, items: int = PAGE_ITEMS) -> str:
    """The path and query of a page read."""
    facts = {
        "user": page.user,
        "session": page.session,
        "item": page.item,
        "country": page.country,
        "n": items,
    }
    query = urlencode({name: value for name, value in facts.items() if value is not None})
    return f"/v1/recommend/{page.slot}?{query}"
