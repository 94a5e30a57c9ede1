"""A ranker learned from a log: the moments it learns from, and that it learns what is there."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from onhand.app import App
from onhand.contracts.errors import Invalid
from onhand.contracts.models import DEFAULT
from onhand.contracts.records import Context, Event, Item, Record
from onhand.decision.models import Models
from onhand.log.memory import MemoryLog
from onhand.offline import metrics
from onhand.offline.listwise import RankerSettings
from onhand.offline.moments import Interactions, read_interactions, sample
from onhand.offline.shop_evaluation import FULL, evaluate_shop
from onhand.offline.shop_report import markdown
from onhand.offline.training import Training, train
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=128, users=512, sessions=2048, pairs=64)
DAY_MS = 86_400_000
QUICK = Training(
    most=800, held_out=200, n_threads=1, rankers=(RankerSettings(n_trees=30, min_rows_in_leaf=20),)
)


def quiet(*_: object) -> None:
    pass


def past_of(records: list[Record]) -> Past:
    log = MemoryLog()
    log.append(records)
    return Past(log, None, App().features, LIMITS)


def view(item: str, at_ms: int, session: str | None = "s", **fields: object) -> Event:
    return Event("view", session=session, item=item, time=at_ms, **fields)  # type: ignore[arg-type]


def read(records: list[Record]) -> Interactions:
    return read_interactions(past_of(records), quiet)


def test_a_moment_asks_for_what_comes_next_and_knows_only_what_came_before():
    records: list[Record] = [
        Item("a"),
        view("a", START_MS, context=Context(country="GB")),
        Event("hover", session="s", item="z", time=START_MS + 500),
        view("b", START_MS + 1_000),
        Event("purchase", session="s", item="a", time=START_MS + 2_000),
        view("late", START_MS + 2_000 + 31 * 60_000),
    ]
    moments = sample(read(records), 0, 2**60, most=100, per_visit=10)
    first, second, third, fourth = moments
    assert [moment.offset for moment in moments] == [1, 3, 4, 5]
    assert first.gains == {"a": 3.0, "b": 1.0}
    assert second.gains == {"b": 1.0, "a": 3.0}
    assert third.gains == {"a": 3.0}
    assert fourth.gains == {"late": 1.0}, "half an hour ends a visit"
    assert first.visit == third.visit != fourth.visit
    assert first.request.context.country == "GB"
    assert [m.offset for m in sample(read(records), 0, START_MS + 60_000, most=9)] == [1, 3, 4]


def test_a_user_without_a_session_has_one_of_their_own():
    records: list[Record] = [view("a", START_MS, None, user="u"), view("a", START_MS + 1)]
    first, second = sample(read(records), 0, 2**60, most=9)
    assert (first.request.user, first.request.session) == ("u", None)
    assert (second.request.user, second.request.session) == (None, "s")


def test_long_visits_do_not_outweigh_others():
    records: list[Record] = [view(f"i{n}", START_MS + n) for n in range(60)]
    assert len(sample(read(records), 0, 2**60, most=99, per_visit=3)) == 3
    assert sample(read(records), 0, 2**60, most=99)[0].gains.keys() == {f"i{n}" for n in range(50)}


def test_visitors_who_are_hardly_known_get_their_share():
    records: list[Record] = [
        view("a", START_MS + day * DAY_MS + n, "known") for day in range(100) for n in range(12)
    ]
    fresh = [view("a", START_MS + 50 * DAY_MS + n * 60_000, f"new{n}") for n in range(20)]
    of = read(sorted([*records, *fresh], key=lambda event: getattr(event, "time", 0)))

    def new(share: float) -> int:
        moments = sample(of, 0, 2**60, most=30, per_visit=1, fresh_share=share)
        assert len(moments) == 30
        return sum(moment.request.session != "known" for moment in moments)

    assert new(0) < 12
    assert new(0.5) >= 14, "the first visit of the known one was fresh as well"


def test_a_click_far_down_counts_more_where_positions_are_known():
    shown: list[Record] = [
        Event("impression", session="x", item="a", time=START_MS, position=n % 2)
        for n in range(2_000)
    ]
    clicks: list[Record] = [
        Event("click", session=f"c{n}", item="a", time=START_MS + n, position=int(n % 5 == 0))
        for n in range(500)
    ]
    of = read(shown + clicks)
    assert of.propensities.weight(0) == 1
    assert of.propensities.weight(1) == pytest.approx(4, rel=0.05)
    assert of.propensities.weight(-1) == of.propensities.weight(99) == 1
    gains = {next(iter(m.gains.values())) for m in sample(of, 0, 2**60, most=500)}
    assert gains == {1.0, of.propensities.weight(1)}
    assert read(clicks).propensities.seen.tolist() == []


def test_ndcg_with_several_right_items():
    hits = np.array([[True, False, True], [False, False, False]])
    values = metrics.gains_at(hits, np.array([2, 5]), 3)
    assert values[0].tolist() == pytest.approx([1, 1, 1.5 / (1 + 1 / np.log2(3))])
    assert values[1].tolist() == [0, 0, 0]


def circle(sessions: int, seed: int = 3) -> list[Record]:
    """Visitors walk from an item to the next one in a circle of forty; one item is popular."""
    rng = Random(seed)
    records: list[Record] = [Item(f"i{n}", category=f"c{n % 4}", price=1.0 + n) for n in range(40)]
    for number in range(sessions):
        at_ms = START_MS + number * 5 * DAY_MS // sessions
        at = rng.randrange(40)
        for step in range(rng.randrange(2, 6)):
            item = "i0" if rng.random() < 0.2 else f"i{(at + step) % 40}"
            records.append(view(item, at_ms + step * 1_000, f"s{number}"))
    return records


def test_it_learns_and_is_activated(tmp_path: Path):
    past = past_of(circle(500))
    model, card = train(past, "walk", 1, QUICK, quiet)
    assert card.quality["model"].ndcg > 1.5 * card.quality["popular"].ndcg
    assert card.quality["model"].decisions >= 100
    assert set(card.importance) <= {*model.features}
    assert card.data.positions.startswith("not corrected")
    again = train(past, "walk", 1, QUICK, quiet)
    assert again.model.features == model.features
    assert again.card.quality == card.quality, "the same seed learns the same"
    store = ModelStore(tmp_path)
    store.save(model, card)
    models = Models(store, App().features)
    activation = models.check("walk@1")
    assert activation is not None
    assert activation.model == "walk@1"


def test_the_evaluation_is_ahead_of_each_source_where_there_is_something_to_learn():
    result = evaluate_shop(past_of(circle(700)), 1, 200, QUICK, False, quiet)
    ndcg = {name: method.figures["NDCG@10"].mean for name, method in result.methods.items()}
    over, lead = result.leads["all"]
    assert ndcg[over] == max(value for name, value in ndcg.items() if name not in (FULL, DEFAULT))
    assert lead.mean == pytest.approx(ndcg[FULL] - ndcg[over])
    assert 0 < lead.low < lead.mean < lead.high
    assert sum(result.moments.values()) == 200
    assert all(method.coverage > 0 for method in result.methods.values()), "each shows something"
    assert set(result.leads) == {"all", "anonymous", "content"}, "nobody walks ten steps"
    assert f"| all | {over} | {lead.mean:.4f} [" in markdown(result)
    with pytest.raises(Invalid, match="nothing before"):
        evaluate_shop(past_of(circle(700)), 9, 200, QUICK, False, quiet)


def test_an_empty_or_short_log_is_refused():
    with pytest.raises(Invalid, match="no view"):
        train(past_of([Item("a")]), "x", 1, QUICK, quiet)
    with pytest.raises(Invalid, match="least"):
        train(past_of(circle(20)), "x", 1, QUICK, quiet)
