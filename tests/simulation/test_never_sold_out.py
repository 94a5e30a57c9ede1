"""50,000 random interleavings of facts, visits and decisions, against a model of the shop."""

import random

import pytest

from onhand.contracts.records import Event, Item, ItemDelete, Signal
from onhand.contracts.requests import SLOTS, RecommendRequest
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.state.state import Limits
from streams import START_MS

STEPS = 50_000
ITEMS = 40


class Shop:
    """What may be shown, kept in the plainest way."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.stock: dict[str, int | None] = {}
        self.held: set[str] = set()
        self.listed: set[str] = set()

    def allowed(self) -> set[str]:
        return {item for item in self.listed if self.stock.get(item) != 0} - self.held

    def next_record(self, now_ms: int) -> Event | Item | ItemDelete | Signal:
        rng = self.rng
        item = f"item{rng.randrange(ITEMS)}"
        step = rng.random()
        if step < 0.45:
            self.stock[item] = rng.choice([0, 0, 1, 5, None])
            return Signal(item=item, stock=self.stock[item])
        if step < 0.55:
            held = rng.random() < 0.5
            (self.held.add if held else self.held.discard)(item)
            return Signal(item=item, flags=["recall"] if held else [])
        if step < 0.60 and item in self.listed:
            self.listed.discard(item)
            return ItemDelete(id=item)
        if step < 0.65:
            self.listed.add(item)
            return Item(id=item, title=item)
        kind = rng.choice(["view", "click", "cart_add", "purchase"])
        return Event(kind, session=f"session{rng.randrange(30)}", item=item, time=now_ms)


@pytest.mark.parametrize("seed", [1, 2])
def test_no_answer_contains_what_must_not_be_shown(seed: int):
    rng = random.Random(seed)
    shop = Shop(rng)
    engine = Engine(MemoryLog(), limits=Limits(items=64, users=32, sessions=32))
    engine.load()
    shown = 0
    for step in range(STEPS // 2):
        now_ms = START_MS + step * 10
        report = engine.ingest([shop.next_record(now_ms)], now_ms)
        assert report.accepted == 1
        request = RecommendRequest(
            slot=rng.choice(SLOTS),
            session=f"session{rng.randrange(35)}",
            item=f"item{rng.randrange(ITEMS)}" if rng.random() < 0.5 else None,
            n=rng.choice([1, 5, 10, 60]),
            exclude=[f"item{rng.randrange(ITEMS)}" for _ in range(rng.randrange(4))],
        )
        answer = engine.decide(request, now_ms)
        ids = [item.id for item in answer.items]
        barred = {*request.exclude, request.item}
        assert answer.as_of == report.offset
        assert set(ids) <= shop.allowed() - barred, (seed, step, answer)
        assert len(set(ids)) == len(ids)
        for item in answer.items:
            assert item.stock == shop.stock.get(item.id)
        if request.slot == "product":  # the one slot that also shows what was bought
            cart = {
                int(row)
                for row in engine._state.session.cart_item[
                    engine._state.sessions.rows.get(request.session or "", 0)
                ]
            }
            names = {engine._state.items.names[row] for row in cart}
            assert len(ids) == min(request.n, len(shop.allowed() - barred - names)), (seed, step)
        shown += len(ids)
    assert shown > STEPS
    assert engine.kept_off["sold_out"] > 0
