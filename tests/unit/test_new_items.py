"""Over HTTP: what is new and fits is shown at once, and one click changes the next page."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.retrieval.arrivals import NEW_MS
from onhand.serving.app import App
from onhand.serving.service import Service
from onhand.settings import Settings
from onhand.state.state import Limits

KINDS = {"mug": "home/kitchen/mugs", "rake": "garden/tools", "novel": "books"}


def things(created_ms: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{kind}{n}", "title": f"Sturdy {kind} {n}", "category": category, "stock": 5,
         "created": created_ms}
        for kind, category in KINDS.items() for n in range(12)
    ]  # fmt: skip


def over_http(test: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def whole() -> None:
        limits = Limits(items=256, users=64, sessions=64)
        service = Service(Engine(MemoryLog(), limits=limits), Settings())
        service.start()
        transport = httpx.ASGITransport(App(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            while not service.ready:
                await asyncio.sleep(0.01)
            put = await client.put("/v1/items", json=things(int(time.time() * 1000) - 2 * NEW_MS))
            assert put.status_code == 202
            try:
                await test(client)
            finally:
                await service.stop()

    asyncio.run(whole())


async def page(client: httpx.AsyncClient, session: str, **more: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/recommend/home", params={"session": session, **more})
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def tell(client: httpx.AsyncClient, *events: dict[str, Any]) -> None:
    answer = await client.post("/v1/events", json=list(events))
    assert answer.status_code == 202


def click(session: str, item: str) -> dict[str, Any]:
    return {"type": "click", "session": session, "item": item}


def test_a_new_item_is_on_the_next_page_of_whom_it_fits():
    async def test(client: httpx.AsyncClient) -> None:
        crowd = [click(f"v{n % 9}", f"novel{n % 12}") for n in range(90)]
        await tell(client, *crowd, click("tea", "mug1"), click("soil", "rake1"))
        new = {"id": "new", "title": "Sturdy mug, new", "category": KINDS["mug"], "stock": 5}
        assert (await client.put("/v1/items", json=[new])).status_code == 202
        fitting = {item["id"]: item["source"] for item in await page(client, "tea")}
        assert fitting["new"] == "new_arrivals"
        assert "new" not in {item["id"] for item in await page(client, "soil")}
        gone = {"item": "new", "stock": 0}
        assert (await client.post("/v1/signals", json=[gone])).status_code == 202
        assert "new" not in {item["id"] for item in await page(client, "tea")}

    over_http(test)


def test_a_new_item_leaves_its_places_when_its_time_is_over():
    async def test(client: httpx.AsyncClient) -> None:
        await tell(client, *[click(f"v{n % 9}", f"novel{n % 12}") for n in range(90)])
        await tell(client, click("tea", "mug1"))
        created_ms = int(time.time() * 1000) - NEW_MS
        for id, age_ms in (("late", -1_000), ("soon", 60_000)):
            item = {"id": id, "title": "Sturdy mug", "category": KINDS["mug"],
                    "created": created_ms + age_ms}  # fmt: skip
            assert (await client.put("/v1/items", json=[item])).status_code == 202
        sources = {item["id"]: item["source"] for item in await page(client, "tea")}
        assert sources.get("soon") == "new_arrivals"
        assert "new_arrivals" not in {sources.get("late")}

    over_http(test)


def test_the_product_page_of_a_new_item_shows_what_is_like_it():
    async def test(client: httpx.AsyncClient) -> None:
        await tell(client, *[click(f"v{n % 9}", f"novel{n % 12}") for n in range(90)])
        new = {"id": "new", "title": "Sturdy mug, new", "category": KINDS["mug"], "stock": 5}
        assert (await client.put("/v1/items", json=[new])).status_code == 202
        gone = {"item": "mug3", "stock": 0}
        assert (await client.post("/v1/signals", json=[gone])).status_code == 202
        for path in ("/v1/recommend/product?item=new&n=11", "/v1/similar/new?n=11"):
            items = (await client.get(path)).json()["items"]
            assert {item["id"] for item in items} == {f"mug{n}" for n in range(12)} - {"mug3"}
            assert {item["source"] for item in items} == {"content"}

    over_http(test)


def test_one_click_changes_the_page_of_a_brand_new_visitor():
    async def test(client: httpx.AsyncClient) -> None:
        walks = [(f"w{n}", f"{kind}{place}") for n in range(4) for kind in KINDS
                 for place in range(n, n + 4)]  # fmt: skip
        await tell(client, *[click(session, item) for session, item in walks])
        before = [item["id"] for item in await page(client, "me")]
        await tell(client, click("me", "rake3"))
        after = await page(client, "me")
        assert [item["id"] for item in after] != before
        assert after[0]["source"] == "transitions"

    over_http(test)


def test_conditions_over_http_in_both_forms():
    async def test(client: httpx.AsyncClient) -> None:
        only = "category = garden and not title = x"
        by_query = await page(client, "me", filter=only, n=5)
        body = {"session": "me", "filter": only, "n": 5}
        answer = await client.post("/v1/recommend/home", json=body)
        by_body = answer.json()["items"]
        assert [item["id"] for item in by_query] == [item["id"] for item in by_body]
        assert {item["id"][:4] for item in by_body} == {"rake"}
        capped = await page(client, "me", per_category=2, variety=0.5)
        assert len(capped) == 6
        for wrong in ({"filter": "brand ="}, {"filter": "price < x"}):
            answer = await client.get("/v1/recommend/home", params=wrong)
            assert answer.status_code == 422
            assert answer.json()["code"] == "filter"
            assert (await client.post("/v1/recommend/home", json=wrong)).status_code == 422
        assert (await client.get("/v1/recommend/home?variety=2")).status_code == 400

    over_http(test)
