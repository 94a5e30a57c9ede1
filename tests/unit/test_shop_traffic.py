import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec

from onhand.contracts.records import Event, Signal
from onhand.offline.shop.client import Client, parse_head
from onhand.offline.shop.tally import SoldOut, Tally
from onhand.offline.shop.traffic import Traffic, recommend_path
from onhand.offline.shop.visits import Moment, Page

Change = Callable[["FakeShop"], None]


class FakeShop:
    """A shop of a few items behind real HTTP. It forgets what is sold out when `honest` is not."""

    def __init__(self, honest: bool = True, status: int = 200) -> None:
        self.stock = dict.fromkeys("ABCDE", 5)
        self.honest, self.status = honest, status
        self.offset = 0
        self.events: list[dict[str, Any]] = []
        self.changes: list[tuple[str, int]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = parse_head(b"HTTP/1.1 200 OK\r\n" + head.partition(b"\r\n")[2]).length
            body = self.answer(head.split()[1].decode(), await reader.readexactly(length))
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (self.status, len(body)))
            writer.write(body)
        writer.close()

    def answer(self, path: str, body: bytes) -> bytes:
        if path == "/metrics":
            return b'onhand_items_kept_off_total{reason="sold_out"} 42.0\n'
        if path.startswith("/v1/recommend"):
            return self.page()
        records = msgspec.json.decode(body)
        self.offset += len(records)
        if path == "/v1/signals":
            self.changes += [(record["item"], record["stock"]) for record in records]
            self.stock |= {record["item"]: record["stock"] for record in records}
        else:
            self.events += records
        return msgspec.json.encode(
            {"accepted": len(records), "duplicates": 0, "rejected": 0, "offset": self.offset}
        )

    def page(self) -> bytes:
        items = [item for item, stock in self.stock.items() if stock > 0 or not self.honest]
        return msgspec.json.encode(
            {
                "decision": "1", "slot": "home", "as_of": self.offset, "tier": "anonymous",
                "model": "m", "variant": "v", "degraded": None, "took_us": 1,
                "items": [
                    {"id": i, "score": 1.0, "source": "s", "price": 1.0, "stock": self.stock[i]}
                    for i in items
                ],
            }
        )  # fmt: skip


def day() -> Iterator[Moment]:
    """A purchase, a sale and a page every 10 seconds of the shop; A sells out and comes back."""
    for n in count():
        at_ms = n * 10_000
        session = f"s{n}"
        yield Moment(at_ms, Page("home", session, None, "GB"))
        yield Moment(at_ms, Event("view", None, session, "B", id=f"{n}-view"))
        yield Moment(at_ms, Event("purchase", None, session, "A", id=f"{n}-purchase"))
        yield Moment(at_ms, Signal("A", 4 - n % 5))


def play(shop: FakeShop, seconds: float, moments: Iterator[Moment]) -> Tally:
    tally = Tally(SoldOut())

    async def main() -> None:
        server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        pages, writes = Client("127.0.0.1", port), Client("127.0.0.1", port)
        await Traffic(pages, writes, moments, 500, tally).run(seconds)
        await pages.close()
        await writes.close()
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    return tally


def test_what_is_played_arrives_and_is_counted():
    shop = FakeShop()
    tally = play(shop, 1.8, day())
    assert tally.error == ""
    assert tally.decisions > 30
    assert tally.events == len(shop.events)
    assert tally.signals == len(shop.changes)
    assert tally.purchases == sum(event["type"] == "purchase" for event in shop.events)
    assert tally.offset == shop.offset
    assert tally.kept_off == 42
    assert tally.tiers == {"anonymous": tally.decisions}
    assert tally.pages.count > 0
    assert all(isinstance(event["time"], int) for event in shop.events)


def test_stock_arrives_in_order():
    shop = FakeShop()
    play(shop, 1, day())
    assert shop.changes == [("A", 4 - n % 5) for n in range(len(shop.changes))]


def test_sell_outs_and_restocks_are_seen_and_an_honest_shop_shows_none():
    tally = play(FakeShop(), 1.5, day())
    assert tally.sell_outs > 0
    assert abs(tally.sell_outs - tally.restocks) <= 1
    assert tally.sold_out_shown == []
    assert tally.newest[0][1] == "A"


def test_a_shop_that_shows_what_is_sold_out_is_caught():
    tally = play(FakeShop(honest=False), 1.5, day())
    assert "A" in tally.sold_out_shown


def test_a_followed_visitor_clicks_and_sees_a_new_list():
    tally = play(FakeShop(), 1.8, day())
    assert tally.followed.clicked in {"A", "B"}
    assert tally.followed.after
    assert tally.clicks.count >= 1


def test_a_server_that_refuses_ends_the_play():
    tally = play(FakeShop(status=503), 5, day())
    assert "503" in tally.error


def test_a_server_that_is_gone_ends_the_play():
    tally = Tally(SoldOut())

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        clients = Client("127.0.0.1", port), Client("127.0.0.1", port)
        await Traffic(*clients, day(), 500, tally).run(5)

    asyncio.run(main())
    assert "no answer" in tally.error


def test_the_path_of_a_page_names_what_is_known():
    page = Page("product", "s 1", "17850", None, "85123A")
    assert recommend_path(page) == "/v1/recommend/product?user=17850&session=s+1&item=85123A&n=8"
    assert recommend_path(Page("home", "s", None, "GB"), 5) == (
        "/v1/recommend/home?session=s&country=GB&n=5"
    )
