"""The load: a process that plays a plan against a server, in an open loop, and scores the answers.

    python -m onhand.offline.simulation.load < orders.json

A page is asked for when it is due, on an idle connection or a new one, whether or not earlier pages
were answered; its latency runs from when it was due, so that a server that stalls cannot slow the
clock that measures it. Events due within the same tick share a request, as from a collector; stock
changes go one request after the other, so that their order holds, and each waits for its answer
however long that takes: one given up on could still be taken, after what was sent later. What is
refused for now is sent again, under the same ids.

It prints a `Second` each second and one `Total` at the end, as lines of JSON. Sockets are read
and written without an event loop's objects, and answers are looked into when no page is due: what
the load has to do is not the server's latency. It looks for answers by the clock: were it woken by
each, the server would have to do the waking, which a visitor far away does not ask of it. Where
there are several processors it keeps to the last of them: it would be elsewhere on a real site, and
here the system ran it in the server's place while another processor had nothing to do. Behind the
server's threads there it asked for pages 1 to 2 ms late, which counts as the server's: so it goes
before them where the system lets it (`sched(7)`).
"""

import gc
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from heapq import heappop, heappush
from http.client import HTTPConnection
from itertools import accumulate, pairwise
from math import inf
from time import monotonic, process_time, sleep
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from onhand.contracts.answers import IngestReport
from onhand.offline.shop.client import parse_head
from onhand.offline.shop.server import HOST
from onhand.offline.simulation.plan import (
    EVENT_TYPES,
    SLOTS,
    Acts,
    Change,
    Phase,
    Reads,
    Shop,
    draw_plan,
)
from onhand.offline.simulation.score import Answer, Clicked, Score, Shown, Total

__all__ = ["EVENT_PREFIX", "Load", "Orders", "is_punctual"]

EVENT_PREFIX: Final = "sale-"
PAGE_ITEMS: Final = 10
TICK_S: Final = 0.01
BATCH: Final = 500
FIRST_LINES: Final = 64
RECORD_LINES: Final = 64
"""Requests with records that may wait at a time: neither they nor pages take the others' room."""
PATIENCE_S: Final = 2.0
"""A visitor who has seen nothing for so long is gone: the page has failed."""
AGAIN_S: Final = 1.0
"""What was not answered is sent again after this; what was refused, when the answer says."""
DRAIN_S: Final = 3.0
WAITING_RECORDS: Final = 200_000
KNOWN_EVERY: Final = 5
"""One in so many visitors is a customer that the shop knows."""
LOOK_S: Final = 0.0005
"""So often it is looked for answers; none counts as faster for it."""
CHUNK: Final = 4096
READ_BYTES: Final = 256 * 1024

_decode_answer: Final = msgspec.json.Decoder(Answer).decode
_decode_report: Final = msgspec.json.Decoder(IngestReport).decode
_encode: Final = msgspec.json.Encoder().encode


class Heard(NamedTuple):
    """What was heard of a request: status 0 for no answer; `at_s` is when it was read, `retry_s` in
    how many seconds it may be sent again."""

    status: int
    body: bytes
    at_s: float
    retry_s: float = AGAIN_S


_Done = Callable[[Heard], None]
_Page = tuple[float, int, int, int, int, int]
_Event = tuple[int, bytes]


class Orders(Struct, frozen=True):
    """What to play, and where; `marks_s` are the moments between the windows of the result.

    Pages have so many `connections`; one that finds none free waits up to `waits_s` for it, and
    has failed then. In phases of at most `punctual_rate` pages a second (None: in all) the load
    comes before whatever else wants its processor, where the system allows that: it must not want
    all of it.
    """

    port: int
    shop: Shop
    phases: list[Phase]
    seed: int
    marks_s: list[float] = []
    connections: int = 704
    waits_s: float = PATIENCE_S
    punctual_rate: float | None = None


class _Line:
    """One kept-alive connection; one exchange at a time, of a page or of records. `done` takes its
    answer, status 0 for none, which is given up on at `until_s`."""

    __slots__ = ("buffer", "done", "of_page", "socket", "until_s")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.done: _Done | None = None
        self.of_page = False
        self.until_s = inf


class Lines:
    """The connections, and the waiting for any of them: for so many pages at a time, and as many
    requests with records."""

    def __init__(self, port: int, pages: int, records: int) -> None:
        self._port = port
        self._room = {True: pages, False: records}
        self._poll = select.epoll()
        self._all: dict[int, _Line] = {}
        self._idle: list[_Line] = []
        self._answers: deque[tuple[_Done, Heard]] = deque()
        for _ in range(min(FIRST_LINES, pages + records)):
            self._idle.append(self._open())

    def free(self, *, of_page: bool) -> bool:
        """Whether a page can be asked for at once, or records sent."""
        return self._room[of_page] > 0

    @property
    def busy(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._answers) or len(self._idle) < len(self._all)

    def send(
        self, request: bytes, done: _Done, until_s: float = inf, *, of_page: bool = False
    ) -> None:
        """Send a request on the connection that was used last; `done` hears the answer, or at
        `until_s` that there is none."""
        try:
            line = self._idle.pop() if self._idle else self._open()
        except OSError:
            done(Heard(0, b"", monotonic()))
            return
        line.done, line.until_s, line.of_page = done, until_s, of_page
        self._room[of_page] -= 1
        self._write(line, request)

    def wait(self, seconds: float) -> None:
        """Read what has arrived, after so many seconds or `LOOK_S`, and have one answer looked
        into."""
        if seconds > 0 and not self._answers:
            sleep(min(seconds, LOOK_S))
        for number, _ in self._poll.poll(0):
            self._read(self._all[number])
        if self._answers:
            self._look_into_one()

    def look_into_all(self) -> None:
        """Have every answer looked into that was read: nothing that is sent later was before it."""
        while self._answers:
            self._look_into_one()

    def _look_into_one(self) -> None:
        done, heard = self._answers.popleft()
        done(heard)

    def give_up(self, now_s: float) -> None:
        """Fail what has waited for its answer until now."""
        for line in list(self._all.values()):
            if line.done is not None and line.until_s <= now_s:
                self._close(line)

    def _open(self) -> _Line:
        line = _Line(self._port)
        self._all[line.socket.fileno()] = line
        self._poll.register(line.socket, select.EPOLLIN)
        return line

    def _write(self, line: _Line, request: bytes) -> None:
        try:
            sent = line.socket.send(request)
            if sent < len(request):  # a large batch: the loopback takes the rest at once
                line.socket.setblocking(True)
                line.socket.sendall(request[sent:])
                line.socket.setblocking(False)
        except OSError:
            self._close(line)

    def _read(self, line: _Line) -> None:
        try:
            data = line.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(line)
            return
        if line.buffer:
            data = line.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            line.buffer = data
            return
        status, length, keep, retry_s = parse_head(data[:end])
        if len(data) < end + 4 + length:
            line.buffer = data
            return
        line.buffer = b""
        done = self._finish(line)
        if keep:
            self._idle.append(line)
        else:
            self._close(line)
        if done is not None:
            heard = Heard(status, data[end + 4 :], monotonic(), retry_s or AGAIN_S)
            self._answers.append((done, heard))

    def _close(self, line: _Line) -> None:
        number = line.socket.fileno()
        if self._all.pop(number, None) is None:
            return
        self._poll.unregister(number)
        line.socket.close()
        if line.done is None:
            if line in self._idle:
                self._idle.remove(line)
            return
        done = self._finish(line)
        if done is not None:
            done(Heard(0, b"", monotonic()))

    def _finish(self, line: _Line) -> _Done | None:
        """Note that an exchange is over; return who hears of it."""
        done, line.done = line.done, None
        if done is not None:
            self._room[line.of_page] += 1
        return done


class Load:
    """One sale, played."""

    def __init__(self, orders: Orders) -> None:
        self._orders, self._shop = orders, orders.shop
        plan = draw_plan(orders.shop, orders.phases, orders.seed)
        self._opening = plan.opening
        self._reads, self._acts = _read_rows(plan.reads), _act_rows(plan.acts)
        self._changes = iter(plan.changes)
        self._seconds = sum(phase.seconds for phase in orders.phases)
        self._score = Score(orders.shop.gone)
        self._stopped = False
        self._waiting: deque[_Page] = deque()
        self._clicks: list[tuple[float, int, int, int, Shown, str]] = []
        self._to_click = 0
        self._all_clicked: list[Clicked] = []
        self._events: deque[_Event] = deque()
        self._again: list[tuple[float, list[_Event]]] = []
        self._outside = 0
        """Events that wait to be sent again."""
        self._sent_changes: list[Change] = []
        self._changes_from_s = 0.0
        self._acknowledged = bytearray()
        self._last_offset = 0
        self._rejected = 0
        self._error = ""

    def stop(self, *_: object) -> None:
        """End early, with a total."""
        self._stopped = True

    def run(self, tell: Callable[[Struct], None]) -> None:
        """Play; `tell` hears of each second, and the total."""
        self._stock_up()
        self._lines = Lines(self._orders.port, self._orders.connections, RECORD_LINES)
        gc.collect()
        gc.disable()  # a run is bounded, and a collection is a pause that is not the server's
        self._zero_s, self._processor_s = monotonic() + 0.05, process_time()
        self._next_read, self._next_act = next(self._reads, None), next(self._acts, None)
        self._next_change = next(self._changes, None)
        tick_s, second_s = 0.0, 1.0
        now_s = self._now_s()
        self._take_place(now_s)
        while now_s < self._seconds and not self._stopped:
            self._ask(now_s)
            if now_s >= tick_s:
                self._tick(now_s)
                tick_s = max(tick_s + TICK_S, now_s)
            if now_s >= second_s:
                self._end_second(now_s, tell)
                self._take_place(now_s)
                second_s += 1
            due_s = self._next_read[0] if self._next_read is not None else tick_s
            self._lines.wait(min(due_s, tick_s, second_s) - self._now_s())
            now_s = self._now_s()
        self._drain(now_s + DRAIN_S)
        self._end_second(self._now_s(), tell)
        tell(self._total())

    def _now_s(self) -> float:
        return monotonic() - self._zero_s

    def _take_place(self, now_s: float) -> None:
        """Come before whatever else wants this processor, or among it, as the phase is."""
        first = is_punctual(self._orders.phases, self._orders.punctual_rate, now_s)
        policy = os.SCHED_FIFO if first else os.SCHED_OTHER
        with suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(int(first)))

    def _ask(self, now_s: float) -> None:
        """Ask for every page that is due."""
        waiting = self._waiting
        while self._next_read is not None and self._next_read[0] <= now_s:
            waiting.append(self._next_read)
            self._score.note_lag(now_s - self._next_read[0])
            self._next_read = next(self._reads, None)
        while waiting and self._lines.free(of_page=True):
            self._ask_page(waiting.popleft())
        while waiting and waiting[0][0] < now_s - self._orders.waits_s:
            self._score.fail(waiting.popleft()[0])

    def _ask_page(self, page: _Page) -> None:
        due_s, slot, visitor, item, click_us, position = page
        asked_s = self._now_s()
        country = self._country(visitor)
        seed = self._shop.codes[item] if item >= 0 else ""

        def answered(heard: Heard) -> None:
            now_s = heard.at_s - self._zero_s
            try:
                answer = _decode_answer(heard.body) if heard.status == 200 else None
            except msgspec.DecodeError:
                answer = None
            if answer is None:
                self._score.fail(due_s)
                return
            shown = self._score.page(due_s, asked_s, now_s, answer, (slot, seed, country))
            if click_us >= 0:
                click_s = now_s + click_us / 1e6
                self._to_click += 1
                click = (click_s, self._to_click, visitor, position, shown, answer.decision)
                heappush(self._clicks, click)

        request = self._page_request(slot, visitor, seed, country)
        self._lines.send(request, answered, asked_s + PATIENCE_S, of_page=True)

    def _page_request(self, slot: int, visitor: int, seed: str, country: str) -> bytes:
        customers = self._shop.customers
        user = "" if visitor % KNOWN_EVERY else f"&user={customers[visitor % len(customers)]}"
        item = f"&item={seed}" if seed else ""
        return (
            f"GET /v1/recommend/{SLOTS[slot]}?session=f{visitor}{user}{item}&n={PAGE_ITEMS}"
            f"&country={country} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"
        ).encode()

    def _country(self, visitor: int) -> str:
        countries = self._shop.countries
        return countries[visitor * 7919 % len(countries)]

    def _tick(self, now_s: float) -> None:
        """Send what happened since the last tick."""
        while self._next_act is not None and self._next_act[0] <= now_s:
            _, kind, visitor, item = self._next_act
            self._happen(EVENT_TYPES[kind], visitor, self._shop.codes[item])
            self._next_act = next(self._acts, None)
        while self._clicks and self._clicks[0][0] <= now_s:
            _, _, visitor, position, shown, decision = heappop(self._clicks)
            clicked = self._score.click(shown, position, now_s)
            if clicked is not None:
                self._all_clicked.append(Clicked(decision, position, self._last_offset))
                self._happen("click", visitor, clicked)
        while self._again and self._again[0][0] <= now_s:
            refused = heappop(self._again)[1]
            self._outside -= len(refused)
            self._events += refused
        while self._events and self._lines.free(of_page=False):
            count = min(len(self._events), BATCH)
            self._send_events([self._events.popleft() for _ in range(count)], now_s)
        if not self._sent_changes and now_s >= self._changes_from_s:
            self._lines.look_into_all()
            self._send_changes(self._due_changes(now_s), now_s)

    def _happen(self, kind: str, visitor: int, item: str) -> None:
        """An event: it is numbered, and waits for the next request."""
        if len(self._events) >= WAITING_RECORDS:
            return
        customers = self._shop.customers
        user = "" if visitor % KNOWN_EVERY else f'"user":"{customers[visitor % len(customers)]}",'
        number = len(self._acknowledged)
        self._acknowledged.append(0)
        text = (
            f'{{"type":"{kind}","session":"f{visitor}",{user}"item":"{item}",'
            f'"id":"{EVENT_PREFIX}{number}","context":{{"country":"{self._country(visitor)}"}}}}'
        )
        self._events.append((number, text.encode()))

    def _send_events(self, batch: list[_Event], now_s: float) -> None:
        def answered(heard: Heard) -> None:
            heard_s = heard.at_s - self._zero_s
            if self._is_put_off(heard.status, len(batch)):
                if self._outside < WAITING_RECORDS:
                    self._outside += len(batch)
                    heappush(self._again, (heard_s + heard.retry_s, batch))
                return
            report = self._report(heard)
            if report is not None:
                self._score.second.events += report.accepted + report.duplicates
                self._note_wait(heard_s - now_s)
                for number, _ in batch:
                    self._acknowledged[number] = 1

        body = b"[" + b",".join(text for _, text in batch) + b"]"
        self._lines.send(_post("/v1/events", body), answered)

    def _due_changes(self, now_s: float) -> list[Change]:
        batch: list[Change] = []
        while (
            self._next_change is not None
            and self._next_change.at_us <= now_s * 1e6
            and len(batch) < BATCH
        ):
            batch.append(self._next_change)
            self._next_change = next(self._changes, None)
        return batch

    def _send_changes(self, batch: list[Change], now_s: float) -> None:
        """Send stock changes, and again until they are taken: none may overtake another."""
        if not batch:
            return
        self._sent_changes = batch
        codes, score = self._shop.codes, self._score
        for change in batch:
            score.send(codes[change.item], change.stock, change.held)

        asked_s = now_s

        def answered(heard: Heard) -> None:
            now_s = heard.at_s - self._zero_s
            self._sent_changes = []
            if self._is_put_off(heard.status, len(batch)):
                self._changes = _chain(batch, self._next_change, self._changes)
                self._next_change = next(self._changes, None)
                self._changes_from_s = now_s + heard.retry_s
                return
            if self._report(heard) is not None:
                second = score.second
                second.stock_changes += len(batch)
                late_ms = round(now_s * 1e3 - batch[0].at_us / 1e3, 3)
                second.stock_late_ms = max(second.stock_late_ms, late_ms)
                self._note_wait(now_s - asked_s)
                for change in batch:
                    score.acknowledge(codes[change.item], change.stock, change.held, now_s)

        body = _encode([_signal(change, codes) for change in batch])
        self._lines.send(_post("/v1/signals", body), answered)

    def _note_wait(self, seconds: float) -> None:
        """Records have waited for so long for their acknowledgement."""
        second = self._score.second
        second.acknowledged_ms = max(second.acknowledged_ms, round(seconds * 1000, 3))

    def _is_put_off(self, status: int, records: int) -> bool:
        """Whether records must be sent again: no answer, or one that says so."""
        if status not in (0, 429) and status < 500:
            return False
        self._score.second.put_off += records
        return True

    def _report(self, heard: Heard) -> IngestReport | None:
        if heard.status != 202:
            text = heard.body[:300].decode(errors="replace")
            self._fail(f"the server answered {heard.status}: {text}")
            return None
        report = _decode_report(heard.body)
        if report.rejected:
            self._rejected += report.rejected
            self._fail(f"the server refused a record: {report.errors[0].message}")
        self._last_offset = max(self._last_offset, report.offset)
        return report

    def _fail(self, error: str) -> None:
        self._error = self._error or error

    def _end_second(self, now_s: float, tell: Callable[[Struct], None]) -> None:
        self._lines.give_up(now_s)
        self._score.second.outside = self._outside
        tell(self._score.close_second())

    def _drain(self, until_s: float) -> None:
        """Take the answers that are still under way."""
        while (self._lines.busy or self._waiting) and self._now_s() < until_s:
            self._ask(self._now_s())
            self._lines.wait(0.01)
        self._lines.give_up(inf)

    def _stock_up(self) -> None:
        """Give every item its opening stock."""
        stocks = list(zip(self._shop.codes, self._opening, strict=True))
        for begin in range(0, len(stocks), BATCH):
            batch = [{"item": c, "stock": left} for c, left in stocks[begin : begin + BATCH]]
            connection = HTTPConnection(HOST, self._orders.port, timeout=30)
            head = {"content-type": "application/json"}
            connection.request("POST", "/v1/signals", _encode(batch), head)
            answer = connection.getresponse()
            self._report(Heard(answer.status, answer.read(), monotonic()))
            connection.close()

    def _total(self) -> Total:
        marks_s = [0.0, *self._orders.marks_s, self._seconds]
        score = self._score
        return Total(
            score.window(),
            [score.window(*pair) for pair in pairwise(marks_s)],
            score.lag_p99_ms(),
            self._rejected,
            self._last_offset,
            len(self._acknowledged),
            np.packbits(np.frombuffer(self._acknowledged, np.uint8)).tobytes(),
            round(process_time() - self._processor_s, 3),
            self._error,
            self._all_clicked,
        )


def is_punctual(phases: Sequence[Phase], rate: float | None, now_s: float) -> bool:
    """Whether the load comes before others now: in phases of at most `rate` pages a second."""
    ends_s = accumulate(phase.seconds for phase in phases)
    here = next((each for each, end_s in zip(phases, ends_s, strict=True) if now_s < end_s), None)
    return rate is None or here is None or here.rate <= rate


def _post(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _signal(change: Change, codes: list[str]) -> dict[str, Any]:
    signal: dict[str, Any] = {"item": codes[change.item]}
    if change.stock is not None:
        signal["stock"] = change.stock
    if change.price is not None:
        signal["price"] = change.price
    if change.held is not None:
        signal["flags"] = ["checking"] if change.held else []
    return signal


def _chain(first: list[Change], then: Change | None, rest: Iterator[Change]) -> Iterator[Change]:
    yield from first
    if then is not None:
        yield then
        yield from rest


def _read_rows(reads: Reads) -> Iterator[_Page]:
    """The reads one by one, in Python's numbers, a chunk at a time; the moment in seconds."""
    for begin in range(0, len(reads.at_us), CHUNK):
        at_us, *others = (column[begin : begin + CHUNK] for column in reads)
        yield from zip((at_us / 1e6).tolist(), *(o.tolist() for o in others), strict=True)


def _act_rows(acts: Acts) -> Iterator[tuple[float, int, int, int]]:
    """The same of the acts."""
    for begin in range(0, len(acts.at_us), CHUNK):
        at_us, *others = (column[begin : begin + CHUNK] for column in acts)
        yield from zip((at_us / 1e6).tolist(), *(o.tolist() for o in others), strict=True)


def main() -> None:
    """Play the orders on standard input."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, processors[-1:])
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    load = Load(orders)
    signal.signal(signal.SIGTERM, load.stop)

    def tell(what: Struct) -> None:
        sys.stdout.buffer.write(_encode(what) + b"\n")
        sys.stdout.buffer.flush()

    load.run(tell)


if __name__ == "__main__":
    main()
