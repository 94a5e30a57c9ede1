import pytest

from onhand.contracts.errors import Refused
from onhand.contracts.records import Item, ItemPatch, Record, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.ladder import choose_static
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.retrieval.filters import compile_filter, parse_filter, passes
from onhand.state.state import Limits, State
from streams import START_MS

SHELF: list[Record] = [
    Item("cup", category="home/kitchen/cups", brand="Acme", price=4.5, tags=["gift", "new in"],
         attributes={"colour": "red", "size": 42, "vegan": True}),
    Item("pan", category="home/kitchen", brand="Bolt & Co", price=30, attributes={"size": 4.5}),
    Item("lamp", category="home/light", brand="Acme", price=20, tags=["fragile"]),
    Item("rug", category="homes", attributes={"brand": "none", "vegan": False}),
]  # fmt: skip


def let_through(text: str, *more: Record) -> set[str]:
    state = State(Limits(items=16, users=4, sessions=4))
    state.apply([*SHELF, *more], len(SHELF) + len(more))
    lets, items = compile_filter(state, text), state.item
    return {
        name
        for row, name in enumerate(state.items.names)
        if row
        and passes(
            lets.program, lets.rows, row, items.category, items.brand, items.price_cents,
            items.terms,
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("category = home/kitchen", {"cup", "pan"}),
        ("category != home", {"rug"}),
        ("brand = Acme", {"cup", "lamp"}),
        ("brand in (Acme, 'Bolt & Co')", {"cup", "pan", "lamp"}),
        ('brand = "Bolt & Co" or brand = Nobody', {"pan"}),
        ("price < 20", {"cup"}),
        ("price <= 20", {"cup", "lamp"}),
        ("price != 20", {"cup", "pan"}),
        ("price >= 20 and price = 30", {"pan"}),
        ("not price < 20", {"pan", "lamp", "rug"}),
        ("tags = gift", {"cup"}),
        ("tags = 'new in'", {"cup"}),
        ("colour = red", {"cup"}),
        ("size = 42", {"cup"}),
        ("size = 4.50", {"pan"}),
        ("vegan = true", {"cup"}),
        ("vegan = false", {"rug"}),
        ("attributes.brand = none", {"rug"}),
        ("not (category = home or brand = Acme)", {"rug"}),
        ("brand = Acme and price > 5 or category = homes", {"lamp", "rug"}),
        ("not not brand = Acme and not tags = gift", {"lamp"}),
        ("nothing = here", set()),
        ("brand = 'or' or tags in ('in', gift)", {"cup"}),
    ],
)
def test_what_a_filter_lets_through(text: str, items: set[str]):
    assert let_through(text) == items


def test_a_filter_follows_what_changes():
    dear = Signal("cup", price=99)
    assert let_through("price > 50", dear) == {"cup"}
    changed = ItemPatch("lamp", tags=["sturdy"], brand="Zed")
    assert let_through("tags = fragile", changed) == set()
    assert let_through("tags = sturdy and brand = Zed", changed) == {"lamp"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "its end where a name"),
        ("brand", "its end where `=`"),
        ("brand = ", "its end where a value"),
        ("brand = a b", "'b' at 11 where `and`, `or` or the end"),
        ("brand < a", "'<' at 7"),
        ("price = cheap", "'cheap' at 9 where a number"),
        ("price in (1, x)", "'x' at 14"),
        ("(brand = a", "its end where `)`"),
        ("brand in a", "'a' at 10 where `(`"),
        ("brand = 'a", '"\'a" at 9'),
        ("and", "'and' at 1"),
        ("brand = a & b = c", "`and`"),
        (" or ".join(["a = b"] * 65), "more than 64"),
        ("(a = b or " * 40 + "a = b" + ")" * 40, "too deep"),
        ("(" * 400, "too deep"),
        ("not " * 120 + "a", "too deep"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, says: str):
    with pytest.raises(Refused) as caught:
        parse_filter(text)
    assert caught.value.status == 422
    assert says in caught.value.message


@pytest.fixture
def engine() -> Engine:
    engine = Engine(MemoryLog(), limits=Limits(items=64, users=8, sessions=8))
    engine.load()
    engine.ingest(
        [
            Item(f"i{n}", title=f"{'red mug' if n % 2 else 'blue rake'}", brand=f"b{n % 4}",
                 category=f"c{n % 5}/x", price=n + 1.0, stock=5, created=START_MS)
            for n in range(40)
        ],
        START_MS,
    )  # fmt: skip
    return engine


def test_a_page_is_full_of_what_the_filter_leaves(engine: Engine):
    answer = engine.recommend("home", n=8, filter="brand = b1 and price > 10", now_ms=START_MS)
    assert {item.id for item in answer.items} == {f"i{n}" for n in range(10, 40) if n % 4 == 1}
    with pytest.raises(Refused):
        engine.recommend("home", filter="brand ==", now_ms=START_MS)


def test_caps_hold_while_the_page_is_full(engine: Engine):
    answer = engine.recommend("home", n=10, per_brand=3, now_ms=START_MS)
    brands = [int(item.id[1:]) % 4 for item in answer.items]
    assert len(brands) == 10
    assert max(map(brands.count, brands)) == 3
    assert len(engine.recommend("home", n=30, per_category=2, now_ms=START_MS).items) == 10


def test_a_static_list_keeps_to_the_conditions(engine: Engine):
    state, ids = engine._state, [f"i{n}" for n in range(40)]
    request = RecommendRequest("home", n=9, filter="price > 10", per_brand=2, per_category=3)
    shown = [item.id for item in choose_static(state, request, ids, whole=True)]
    assert shown == [f"i{n}" for n in (10, 11, 12, 13, 14, 15, 16, 17)]
    unseen = choose_static(state, request, ["nobody", "i30"], whole=False)
    assert [item.id for item in unseen] == ["i30"]


def test_variety_puts_unlike_items_side_by_side(engine: Engine):
    same = engine.recommend("home", n=4, filter="price <= 12", now_ms=START_MS)
    mixed = engine.recommend("home", n=4, filter="price <= 12", variety=0.9, now_ms=START_MS)
    kinds = [int(item.id[1:]) % 2 for item in mixed.items]
    assert kinds[0] != kinds[1]
    assert mixed.items[0].id == same.items[0].id
