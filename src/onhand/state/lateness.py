"""Lateness: events held back until none that is earlier may still come.

With a declared lateness of L, an event waits until one has been seen that is more than L later.
Then it is folded, in order of time, of id, of content: the same order however the events arrived,
as long as none came more than L late. Those that did are late: they are folded at once, out of
order, and counted.

The price is that a held event is durable but not visible yet. Therefore L is 0 unless a contract
says otherwise; then nothing is held, and an event is visible when it is acknowledged.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

import msgspec

from onhand.contracts.records import Event
from onhand.state.seen import Seen

__all__ = ["Held"]

_Entry = tuple[int, str, bytes, int, Event]
_encode = msgspec.msgpack.Encoder().encode


class Held:
    """Events that wait, at most `capacity`; beyond it the earliest go first.

    `newest_ms` is the latest time seen, `floor_ms` the time up to which events were let go early
    for want of room, `late` how many came too late to be put in order.
    """

    def __init__(
        self,
        capacity: int,
        events: Iterable[Event] = (),
        newest_ms: int = 0,
        floor_ms: int = 0,
        late: int = 0,
    ) -> None:
        self.capacity = capacity
        self.lateness_ms = 0
        self.newest_ms = newest_ms
        self.floor_ms = floor_ms
        self.late = late
        self._pushed = 0
        self._heap = [self._entry(event) for event in events]
        self._ids = {event.id for event in events if event.id is not None}
        heapify(self._heap)

    def __contains__(self, id: str) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def active(self) -> bool:
        """Whether events have to pass through here."""
        return self.lateness_ms > 0 or bool(self._heap)

    @property
    def watermark_ms(self) -> int:
        """Events from before it are late."""
        return max(self.newest_ms - self.lateness_ms, self.floor_ms)

    @property
    def events(self) -> list[Event]:
        """Those that wait, in the order in which they will be folded."""
        return [entry[-1] for entry in sorted(self._heap)]

    def take(self, event: Event, seen: Seen) -> list[Event]:
        """Take an event, and return those to be folded now; one that was seen is dropped."""
        if event.id is not None and (event.id in self._ids or event.id in seen):
            return []
        assert isinstance(event.time, int)
        if event.time < self.watermark_ms:
            self.late += 1
            return [event]
        heappush(self._heap, self._entry(event))
        if event.id is not None:
            self._ids.add(event.id)
        self.newest_ms = max(self.newest_ms, event.time)
        return self.release()

    def release(self, newest_ms: int = 0) -> list[Event]:
        """Return the events to be folded now that time has come to `newest_ms`."""
        self.newest_ms = max(self.newest_ms, newest_ms)
        due: list[Event] = []
        heap, watermark_ms = self._heap, self.watermark_ms
        everything = self.lateness_ms == 0
        while heap and (everything or heap[0][0] < watermark_ms or len(heap) > self.capacity):
            if heap[0][0] >= watermark_ms and not everything:
                self.floor_ms = heap[0][0]
            event = heappop(heap)[-1]
            if event.id is not None:
                self._ids.discard(event.id)
            due.append(event)
        return due

    def _entry(self, event: Event) -> _Entry:
        self._pushed += 1
        assert isinstance(event.time, int)
        return event.time, event.id or "", _encode(event), self._pushed, event
