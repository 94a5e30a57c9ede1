"""Decisions made again come out to the byte, from any checkpoint and from none."""

from pathlib import Path
from random import Random

import msgspec
import pytest

from onhand.app import App
from onhand.contracts.errors import Unknown
from onhand.contracts.features import Entity, FeatureRequest
from onhand.contracts.records import Context, Event, Item, Signal
from onhand.decision.models import Models
from onhand.decision.records import DecisionRecord
from onhand.engine import Engine
from onhand.features.declare import count
from onhand.log.decisions import read_decision, read_decisions
from onhand.log.sqlite import SqliteReader
from onhand.offline.replay import replay
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=16, sessions=16, pairs=64)
DECISIONS = 120


def play(folder: Path, seed: int = 1) -> list[str]:
    """Events, stock and pages in turn, with a restart in the middle; return the decisions."""
    rng = Random(seed)
    engine = Engine.open(folder, LIMITS)
    engine.ingest(
        [Item(f"mug{n}", category=f"c{n % 3}", price=2.5, stock=5) for n in range(20)], START_MS
    )
    made: list[str] = []
    for step in range(DECISIONS):
        now_ms = START_MS + step * 500
        events = [
            Event(
                rng.choice(["view", "click", "cart_add", "purchase"]),
                session=f"s{rng.randrange(30)}",
                user=rng.choice([None, f"u{rng.randrange(30)}"]),
                item=f"mug{rng.randrange(20)}",
                time=now_ms - rng.randrange(3_000),
                id=str(rng.randrange(200)),
                context=Context(country=rng.choice(["UK", "DE"])),
            )
            for _ in range(rng.randrange(5))
        ]
        engine.ingest([*events, Signal(f"mug{rng.randrange(20)}", stock=rng.randrange(3))], now_ms)
        page = engine.recommend(
            rng.choice(["home", "cart"]),
            session=f"s{rng.randrange(30)}",
            user=rng.choice([None, f"u{rng.randrange(30)}"]),
            n=5,
            now_ms=now_ms,
        )
        made.append(page.decision)
        if step % 7 == 0:
            made.append(engine.similar(f"mug{rng.randrange(20)}", now_ms=now_ms).decision)
        if step == DECISIONS // 2:
            engine.close()
            engine = Engine.open(folder, LIMITS)
    engine.close()
    return made


def records_in(folder: Path) -> list[DecisionRecord]:
    bodies = read_decisions(folder / "decisions.db", 0, 10**6)
    return [msgspec.json.decode(body, type=DecisionRecord) for body in bodies]


def past_of(folder: Path, checkpoints: bool) -> Past:
    return Past(
        SqliteReader(folder / "log.db"),
        folder / "checkpoints" if checkpoints else None,
        App().features,
        LIMITS,
    )


def models_of(folder: Path) -> Models:
    return Models(ModelStore(folder / "models"), App().features)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_every_decision_is_made_again_to_the_byte(tmp_path: Path, checkpoints: bool):
    made = play(tmp_path)
    records = records_in(tmp_path)
    assert sorted(record.answer.decision for record in records) == sorted(made)
    replayed = list(replay(records, past_of(tmp_path, checkpoints), models_of(tmp_path)))
    assert len(replayed) == len(made)
    assert [each.differences for each in replayed] == [[]] * len(made)


def test_what_differs_is_told(tmp_path: Path):
    play(tmp_path)
    record = records_in(tmp_path)[-1]
    other = msgspec.structs.replace(record.answer, tier="nobody")
    changed = msgspec.structs.replace(record, answer=other)
    (each,) = replay([changed], past_of(tmp_path, checkpoints=True), models_of(tmp_path))
    assert [(d.field, d.was) for d in each.differences] == [("tier", "nobody")]


def test_a_sample_is_spread_over_all(tmp_path: Path):
    made = play(tmp_path)
    assert len(read_decisions(tmp_path / "decisions.db", 0, 10)) == 10
    body = read_decision(tmp_path / "decisions.db", made[3])
    assert body is not None
    assert msgspec.json.decode(body, type=DecisionRecord).answer.decision == made[3]
    assert read_decision(tmp_path / "decisions.db", "none") is None


def test_an_explanation_tells_of_every_candidate(tmp_path: Path):
    made = play(tmp_path)
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest(
        [Event("view", session="s1", item="mug1", time=START_MS + 10**6)], START_MS + 10**6
    )
    told = engine.explain(made[-1])
    engine.close()
    assert told.same
    shown = [each for each in told.candidates if each.place]
    assert [each.place for each in shown] == list(range(1, len(shown) + 1))
    assert {each.dropped for each in told.candidates} & {"sold_out", "bought", "in_cart"}
    for each in told.candidates:
        kept = 1 if each.dropped else 1 - each.gone_chance
        assert sum(each.parts.values()) * kept == pytest.approx(each.score, abs=1e-5)
        assert each.features["item_price"] == 2.5
        assert (each.dropped is None) or (each.place is None)


def test_an_unknown_model_is_refused(tmp_path: Path):
    models = models_of(tmp_path)
    assert models.find("default@1") is None
    with pytest.raises(Unknown, match="onhand train"):
        models.find("other@2")


def test_a_new_feature_is_served_at_once_over_the_old_log(tmp_path: Path):
    play(tmp_path)
    app = App()
    app.feature(count(("click", "view"), by="item", name="item_all_clicks"))
    engine = Engine.open(tmp_path, LIMITS, app)
    asked = {f"mug{n}": 0 for n in range(20)}
    for batch in engine._log.read(0):
        for record in batch.records:
            if isinstance(record, Event) and record.type in ("click", "view") and record.item:
                asked[record.item] += 1
    request = FeatureRequest([Entity(item=name) for name in asked], ["item_all_clicks"])
    answer = engine.read_features(request, START_MS)
    assert [row[0] for row in answer.values] == list(asked.values())
    assert sum(asked.values()) > 50
    engine.close()
