"""The process that ranks for a server, and the one that it is forked from: see `serving.replica`,
which begins them."""

import gc
import logging
import os
import signal
import socket
import sys
from collections import deque
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

from onhand import wiring
from onhand.contracts.errors import OnhandError, Refused
from onhand.contracts.requests import Slot
from onhand.decision.lists import Whom, likely
from onhand.decision.prepared import Ranker, gather, make_scratch, rank
from onhand.log.sqlite import SqliteReader
from onhand.past import Past
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.serving.replica import Failed, Gathered, Made, Orders, Ready, Turn, frame, pack, read

__all__ = ["Follower", "main"]

AHEAD: Final = 4
"""Lists of a turn that asks for none."""


class Follower:
    """The state of a data folder, and the model that is active there."""

    def __init__(self, orders: Orders) -> None:
        folder = Path(orders.data)
        app = wiring.load_app(Path(orders.app) if orders.app else None)
        if app.features.version != orders.features:
            raise Refused("app_changed", f"{orders.app} has changed. Start the server again.")
        self._faults: set[str] = set()
        is_on = self._faults.__contains__ if orders.faults else None
        self._models = wiring.open_models(folder, app, is_on)
        self._slots_ahead: list[Slot] = [slot for slot, rule in app.slots.items() if rule.ahead]
        self._most = orders.lists
        self._ahead: deque[Whom] = deque()
        self._ahead_of: Ranker | None = None
        self._log = SqliteReader(folder / "log.db")
        past = Past(self._log, folder / "checkpoints", app.features, orders.limits)
        self._state = past.begin(self._log.last)
        past.catch_up(self._state)
        self._sight = sight_of(self._state)
        self._scratch = make_scratch(self._state)
        self.follow()

    def follow(self) -> None:
        """Fold what was appended to the log since."""
        self._log.advance()
        for batch in self._log.read(self._state.offset):
            self._state.apply(batch.records, batch.last)
        self._models.follow(self._state.controls)
        if self._ahead_of is not self._models.ranker:
            self._ahead_of = self._models.ranker
            self._ahead = deque(likely(self._state, self._slots_ahead, self._most))

    def take(self, turn: Turn, channel: socket.socket) -> Made | Failed:
        """Make the lists of a turn; tell `channel` when the model begins."""
        began_s = process_time()
        self._faults.clear()
        self._faults.update(turn.faults)
        self.follow()
        ranker = self._models.ranker
        whoms = turn.whoms or [self._ahead.popleft() for _ in range(min(AHEAD, len(self._ahead)))]
        if ranker is None or not whoms:
            return Made(self._state.offset, "", [], [], 0.0, process_time() - began_s)
        try:
            visitors = [find_visitor(self._state, whom.request()) for whom in whoms]
            gathered = [
                gather(self._state, self._sight, ranker, visitor, turn.now_ms, self._scratch)
                for visitor in visitors
            ]
            channel.sendall(frame(Gathered()))
            scoring_s = perf_counter()
            lists = pack(rank(ranker, gathered))
            model_s, used_s = perf_counter() - scoring_s, process_time() - began_s
            return Made(self._state.offset, ranker.label, whoms, lists, model_s, used_s)
        except Exception as error:
            return Failed(str(error) or type(error).__name__, process_time() - began_s)


def main() -> None:
    """Fork a replica for each channel that the server sends, in place of the one before, until the
    server is gone."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s replica: %(message)s")
    wiring.warm_pages()
    gc.collect()
    gc.freeze()  # for good: collections need not walk it, nor copy what replicas share
    replica = 0
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            _, channels, _, _ = socket.recv_fds(control, 1, 1)
            if replica:
                os.kill(replica, signal.SIGKILL)
                os.waitpid(replica, 0)
            if not channels:
                return
            replica = os.fork()
            if not replica:
                break
            os.close(channels[0])
    with socket.socket(fileno=channels[0]) as channel:
        _follow(channel)


def _follow(channel: socket.socket) -> None:
    """Follow the orders of a server until there are no more."""
    orders = read(channel, Orders)
    if orders is None:
        return
    try:
        follower = Follower(orders)
    except OnhandError as error:
        sys.exit(error.message)
    gc.collect()
    gc.freeze()  # the state is for good
    channel.sendall(frame(Ready()))
    while (turn := read(channel, Turn)) is not None:
        channel.sendall(frame(follower.take(turn, channel)))


if __name__ == "__main__":
    main()
