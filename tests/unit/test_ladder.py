"""The ladder: each step is reached, says so, and shows nothing that must not be shown."""

from pathlib import Path

import msgspec
import pytest

import onhand
from onhand import engine as engine_module
from onhand.contracts.errors import Unavailable
from onhand.contracts.records import Context, Event, Item, Signal
from onhand.contracts.requests import RecommendRequest
from onhand.decision.ladder import SlotRule, descend
from onhand.decision.records import DecisionRecord
from onhand.engine import Engine
from onhand.log.decisions import DecisionStore
from onhand.log.memory import MemoryLog
from onhand.state.state import Limits
from streams import START_MS

LIMITS = Limits(items=64, users=32, sessions=32)
PAGE = RecommendRequest(slot="home", session="s", n=3, context=Context(country="GB"))


@pytest.fixture
def app() -> onhand.App:
    app = onhand.App()
    app.slot("home", static=["gone", "held", "mug1", "nothing", "mug2", "mug3", "mug4"])
    return app


@pytest.fixture
def engine(app: onhand.App, tmp_path: Path) -> Engine:
    engine = Engine(MemoryLog(), decisions=DecisionStore(tmp_path / "d.db"), limits=LIMITS, app=app)
    engine.load()
    engine.ingest(
        [
            *(Item(f"mug{number}", stock=5, price=2.5) for number in range(12)),
            Item("gone", stock=0),
            Item("held", stock=5),
            Signal("held", flags=["recall"]),
            *(
                Event("view", session=f"o{n}", item=item, context=Context(country="GB"))
                for n, item in enumerate(("mug7", "mug7", "mug7", "gone", "gone", "mug8", "held"))
            ),
            Event("click", session="s", item="mug1"),
        ],
        START_MS,
    )
    return engine


def steps(
    rule: SlotRule, waited_ms: float, hurry: bool = False, behind: str = ""
) -> list[tuple[str | None, str]]:
    return [(fall.step, fall.reason) for fall in descend(rule, behind, waited_ms, hurry)]


def test_the_steps_go_down_from_what_there_is_time_for():
    rule = SlotRule(deadline_ms=50)
    whole = [(None, ""), ("popular", "error"), ("static", "error")]
    assert steps(rule, 0) == whole
    assert steps(rule, 47.9) == whole
    assert steps(rule, 0, behind="breaker") == [("stale", "breaker"), *whole[1:]]
    assert steps(rule, 48.1) == [("popular", "deadline"), ("static", "error")]
    assert steps(rule, 0, hurry=True) == [("popular", "overload"), ("static", "error")]


def test_without_time_the_page_is_what_is_popular_and_may_be_shown(engine: Engine):
    answer = engine.decide(PAGE, START_MS, waited_ms=60)
    assert answer.degraded == "popular"
    assert [item.id for item in answer.items][:2] == ["mug7", "mug8"]
    assert len(answer.items) == 3
    assert engine.degraded == {("popular", "deadline"): 1}


def test_a_failing_decision_falls_to_the_next_step_and_to_the_declared_list(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    decide, failures = engine_module.decide, 1

    def fail(*arguments: object) -> object:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ZeroDivisionError
        return decide(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "decide", fail)
    assert engine.decide(PAGE, START_MS).degraded == "popular"
    failures = 2
    answer = engine.decide(msgspec.structs.replace(PAGE, exclude=["mug2"]), START_MS)
    assert (answer.degraded, answer.tier) == ("static", "none")
    assert [item.id for item in answer.items] == ["mug1", "mug3", "mug4"]
    assert (answer.items[0].price, answer.items[0].stock) == (2.5, 5)
    assert engine.degraded == {("popular", "error"): 1, ("static", "error"): 1}
    failures = 2
    other = RecommendRequest(slot="cart", session="s")
    assert engine.decide(other, START_MS).items == [], "nothing is declared for it"


def test_before_the_log_is_folded_a_declared_list_answers(app: onhand.App):
    engine = Engine(MemoryLog(), limits=LIMITS, app=app)
    answer = engine.decide(PAGE, START_MS)
    assert (answer.degraded, answer.as_of) == ("static", 0)
    assert [item.id for item in answer.items] == ["gone", "held", "mug1"], "nothing is known yet"
    assert engine.degraded == {("static", "loading"): 1}
    with pytest.raises(Unavailable):
        engine.decide(RecommendRequest(slot="cart"), START_MS)


def test_every_step_is_made_again_to_the_byte(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    answers = [engine.decide(PAGE, START_MS), engine.decide(PAGE, START_MS, waited_ms=60)]
    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "decide", None)
        answers.append(engine.decide(PAGE, START_MS))
    assert [answer.degraded for answer in answers] == [None, "popular", "static"]
    engine.ingest([Signal("mug1", stock=0)], START_MS)
    for answer in answers:
        explained = engine.explain(answer.decision)
        assert explained.same, explained.differences
        record = msgspec.json.decode(engine.decision(answer.decision), type=DecisionRecord)
        assert record.answer == answer


def test_a_slot_is_declared_within_bounds():
    app = onhand.App()
    with pytest.raises(ValueError, match="no slot 'hall'"):
        app.slot("hall")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="deadline"):
        app.slot("home", deadline_ms=0)
