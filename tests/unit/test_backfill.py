"""What a backfill writes is what was read live, to the bit; and nothing of it is from later."""

from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from onhand.app import App
from onhand.contracts.errors import Invalid
from onhand.contracts.features import Entity
from onhand.contracts.records import Context, Event, Item, Signal
from onhand.engine import Engine
from onhand.features.declare import count
from onhand.features.drift import profile_of, stability
from onhand.features.online import rows_of
from onhand.log.decisions import DecisionStore
from onhand.log.sqlite import SqliteLog, SqliteReader
from onhand.offline.backfill import backfill
from onhand.offline.parity import parity
from onhand.offline.shown import Outcomes, shown_items
from onhand.past import Past
from onhand.state.state import Limits
from streams import START_MS
from unit.test_replay import records_in

LIMITS = Limits(items=64, users=16, sessions=16, pairs=64)
ROOMY = Limits(items=64, users=2_000, sessions=2_000, pairs=64)
FEATURES = App().features
VECTOR = FEATURES.vector()


def event(rng: Random, time_ms: int) -> Event:
    return Event(
        rng.choice(["view", "click", "impression", "cart_add", "purchase", "search"]),
        session=f"s{rng.randrange(30)}",
        user=rng.choice([None, f"u{rng.randrange(30)}"]),
        item=f"mug{rng.randrange(20)}",
        query="mug",
        time=time_ms,
        id=str(rng.randrange(900)),
        value=rng.choice([None, rng.randrange(900) / 100]),
        position=rng.choice([None, rng.randrange(9)]),
        context=Context(country=rng.choice(["UK", "DE"]), device=rng.choice(["phone", None])),
    )


def past_of(folder: Path, limits: Limits = LIMITS) -> Past:
    return Past(SqliteReader(folder / "log.db"), folder / "checkpoints", FEATURES, limits)


@pytest.mark.parametrize("limits", [LIMITS, ROOMY], ids=["visitors leave", "room for all"])
def test_live_reads_equal_the_backfill_as_bits(tmp_path: Path, limits: Limits):
    """Events shuffled and sent twice, the engine restarted, values read in between."""
    rng = Random(7)
    engine = Engine.open(tmp_path, limits)
    engine.ingest([Item(f"mug{n}", category=f"c{n % 3}", price=2.5) for n in range(20)], START_MS)
    labels: list[dict[str, object]] = []
    live: list[bytes] = []
    for step in range(150):
        now_ms = START_MS + step * 700
        batch = [event(rng, now_ms - rng.randrange(9_000)) for _ in range(rng.randrange(6))]
        engine.ingest([*batch, *batch[:1], Signal("mug3", stock=step)], now_ms)
        for _ in range(4):
            ids = {
                "item": f"mug{rng.randrange(22)}",
                "user": rng.choice([None, f"u{rng.randrange(30)}"]),
                "session": f"s{rng.randrange(31)}",
                "country": rng.choice([None, "DE"]),
                "device": None,
            }
            whose = np.array([rows_of(engine._state, Entity(**ids))], np.int64)
            read = VECTOR.gather_rows(engine._state, whose, np.array([now_ms]))
            live.append(read.values.tobytes())
            labels.append({**ids, "time": now_ms, "offset": engine.offset, "order": len(labels)})
        if step == 70:
            engine.close()
            engine = Engine.open(tmp_path, limits)
    engine.close()
    frame = pl.DataFrame(labels, infer_schema_length=None).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    done = backfill(frame, past_of(tmp_path, limits), VECTOR, tmp_path / "train.parquet")
    written = pl.read_parquet(tmp_path / "train.parquet").sort("order")
    assert done.rows == len(written) == len(live)
    values = np.stack([written[name].to_numpy() for name in VECTOR.names], axis=1)
    assert values.dtype == np.float32
    assert [row.tobytes() for row in values] == live
    assert written["as_of"].to_list() == written["label_offset"].to_list()


def shop_with_luck(folder: Path, rng: Random) -> tuple[pl.DataFrame, Past]:
    """Visitors look at an item; half of them, by chance, buy it. The label is whether they do."""
    engine = Engine.open(folder, LIMITS)
    rows: list[tuple[str, str, int, int]] = []
    for step in range(400):
        time_ms = START_MS + step * 1_000
        session, item = f"s{rng.randrange(8)}", f"mug{rng.randrange(4)}"
        bought = rng.randrange(2)
        engine.ingest([Event("view", session=session, item=item, time=time_ms)], time_ms)
        if bought:
            purchase = Event("purchase", session=session, item=item, time=time_ms + 500)
            engine.ingest([purchase], time_ms + 500)
        rows.append((session, item, time_ms + 500, bought))
    engine.close()
    frame = pl.DataFrame(rows, schema=["session", "item", "time", "label"], orient="row")
    app = App(ready=False)
    app.feature(count("purchase", by="session", window="5s", bucket="1s", name="planted"))
    return frame, Past(SqliteReader(folder / "log.db"), None, app.features, LIMITS)


def test_a_feature_that_would_need_the_future_scores_at_chance(tmp_path: Path):
    labels, past = shop_with_luck(tmp_path, Random(5))
    vector = past.features.vector()
    backfill(labels, past, vector, tmp_path / "at.parquet")
    backfill(labels.with_columns(pl.col("time") + 1), past, vector, tmp_path / "after.parquet")

    def area(name: str) -> float:
        rows = pl.read_parquet(tmp_path / name)
        bought = rows.filter(pl.col("label") == 1)["planted"].to_numpy()
        passed = rows.filter(pl.col("label") == 0)["planted"].to_numpy()
        wins = (bought[:, None] > passed).mean() + (bought[:, None] == passed).mean() / 2
        return float(wins)

    assert area("after.parquet") > 0.9, "a millisecond later it would give the label away"
    assert 0.42 < area("at.parquet") < 0.58


def test_shown_items_are_joined_to_what_came_of_them(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(f"mug{n}", stock=5, price=2.0) for n in range(6)], START_MS)
    page = engine.recommend("home", session="s1", n=4, now_ms=START_MS)
    first, second = page.items[0].id, page.items[1].id

    def outcome(kind: str, item: str, after_ms: int) -> Event:
        time_ms = START_MS + after_ms
        return Event(kind, session="s1", item=item, time=time_ms, decision=page.decision)

    engine.ingest(
        [
            outcome("click", first, 1_000),
            outcome("purchase", first, 9_000),
            outcome("click", second, 90_000_000),
            Event("click", session="s1", item=page.items[2].id, time=START_MS + 5),
        ],
        START_MS + 90_000_000,
    )
    engine.close()
    rows = shown_items(records_in(tmp_path))
    outcomes = Outcomes(rows, window_ms=86_400_000)
    backfill(
        rows, past_of(tmp_path), VECTOR, tmp_path / "shown.parquet",
        outcomes=outcomes.watch, finish=outcomes.join,
    )  # fmt: skip
    written = pl.read_parquet(tmp_path / "shown.parquet").sort("position")
    assert written["clicked"].to_list() == [1, 0, 0, 0]
    assert written["carted"].to_list() == [0, 0, 0, 0]
    assert written["purchased"].to_list() == [1, 0, 0, 0]
    assert written["item_clicks_1h"].to_list() == [0, 0, 0, 0], "as of the page, not after it"
    assert written["item_price"].to_list() == [2.0] * 4


def test_logged_vectors_equal_the_backfill(tmp_path: Path):
    rng = Random(2)
    engine = Engine(
        SqliteLog(tmp_path / "log.db"),
        None,
        DecisionStore(tmp_path / "decisions.db"),
        LIMITS,
        vector_share=0.5,
        profile=profile_of("", [("item_price", np.full(9, 2.5, np.float32))]),
    )
    assert engine.drift() == {}
    engine.load()
    engine.ingest([Item(f"mug{n}", category=f"c{n % 3}", price=2.5) for n in range(20)], START_MS)
    for step in range(60):
        now_ms = START_MS + step * 900
        engine.ingest([event(rng, now_ms) for _ in range(4)], now_ms)
        context = Context(country=rng.choice(["UK", None]), device="phone")
        session = f"s{rng.randrange(30)}"
        engine.recommend("home", session=session, n=5, context=context, now_ms=now_ms)
    assert engine.drift() == {"item_price": 0.0}
    engine.close()
    records = records_in(tmp_path)
    kept = [record for record in records if record.vectors is not None]
    assert 0 < len(kept) < len(records)
    report = parity(records, past_of(tmp_path), VECTOR)
    assert (report.decisions, report.rows) == (len(kept), 5 * len(kept))
    assert {(p.mismatch, p.missing, p.extra) for p in report.features} == {(0.0, 0.0, 0.0)}
    other = App(ready=False)
    other.feature(count("click", by="item", window="1h", name="item_clicks_1h"))
    other.feature(count("hover", by="item", name="new"))
    past = Past(SqliteReader(tmp_path / "log.db"), None, other.features, LIMITS)
    told = {p.feature: p for p in parity(records, past, other.features.vector()).features}
    assert told["item_clicks_1h"].mismatch > 0, "views count in the one that was logged"
    assert told["new"].missing == 1.0
    assert told["item_stock"].extra == 1.0


def test_labels_that_say_too_little_are_refused(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.close()
    for frame, what in (
        (pl.DataFrame({"item": ["a"]}), "time"),
        (pl.DataFrame({"time": [1]}), "item"),
        (pl.DataFrame({"item": ["a"], "time": ["noon"]}), "datetime"),
        (pl.DataFrame({"item": ["a"], "time": [None]}, schema_overrides={"time": pl.Int64}), "no"),
    ):
        with pytest.raises(Invalid, match=what):
            backfill(frame, past_of(tmp_path), VECTOR, tmp_path / "out.parquet")


def test_a_profile_tells_a_shift():
    vector = FEATURES.vector(["item_price"])
    rng = np.random.default_rng(1)
    values = rng.lognormal(size=5_000).astype(np.float32)
    profile = profile_of(vector.version, [("item_price", values)])
    again = rng.lognormal(size=5_000).astype(np.float32)
    assert stability(profile, {"item_price": again})["item_price"] < 0.02
    assert stability(profile, {"item_price": again * 3})["item_price"] > 0.25
