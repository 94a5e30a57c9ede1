"""The clicks of a sale, judged again on pages made without foresight."""

from pathlib import Path

from onhand.app import App
from onhand.contracts.records import Event, Item, Signal
from onhand.decision.models import Models
from onhand.engine import Engine
from onhand.log.sqlite import SqliteReader
from onhand.offline.simulation.score import Clicked
from onhand.offline.simulation.without import Foresight, compare_foresight
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=16, sessions=64, pairs=64)


def test_a_click_on_what_sold_out_is_a_dead_end_from_its_acknowledgement_on(tmp_path: Path):
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(id, price=1.0, stock=2) for id in ("fast", "slow", "calm")], START_MS)
    begun = engine.offset
    engine.ingest(
        [Event("purchase", session=f"s{n}", item="fast", time=START_MS) for n in range(20)],
        START_MS,
    )
    page = engine.recommend("home", session="new", n=2, now_ms=START_MS)
    assert "fast" not in [item.id for item in page.items]
    before = engine.offset
    engine.ingest([Signal("fast", stock=0)], START_MS)
    engine.close()
    clicked = [
        Clicked(page.decision, 0, before),
        *[Clicked(page.decision, 0, before + 1)] * 3,
        Clicked("lost", 0, before + 1),
    ]
    past = Past(SqliteReader(tmp_path / "log.db"), None, App().features, LIMITS)
    models = Models(ModelStore(tmp_path / "models"), App().features)
    judged = compare_foresight(past, models, tmp_path / "decisions.db", begun, clicked)
    assert judged == Foresight(clicks=4, dead_ends=0, dead_ends_without=3, changed=1)
