"""Models on disk, and which of them is active."""

import io
import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from onhand.app import App
from onhand.contracts.errors import Invalid, Refused, Unknown
from onhand.contracts.models import control_of
from onhand.contracts.records import Event, Item
from onhand.contracts.requests import RecommendRequest
from onhand.decision.models import Models
from onhand.decision.prepared import Ranker, Reader, make_scratch, prepare
from onhand.engine import Engine
from onhand.ranking.artefact import ModelStore
from onhand.ranking.card import Card, Data, Quality
from onhand.ranking.model import Linear, Model
from onhand.ranking.trees import TreeEnsemble
from onhand.retrieval.first_pass import find
from onhand.retrieval.sight import find_visitor, sight_of
from onhand.state.state import Limits, State
from streams import START_MS

LIMITS = Limits(items=64, users=16, sessions=16, pairs=64)
NAMES = ("from_popular", "own_count", "item_price")


def card(ndcg: float = 0.2, popular: float = 0.1) -> Card:
    quality = {
        "model": Quality(10, ndcg, 0.5, 0.2),
        "popular": Quality(10, popular, 0.3, 0.1),
    }
    return Card(Data(1, 9, 0, 1, 5, 50, "none"), quality, {}, {}, 1.0, "test")


def linear(version: int = 1, names: tuple[str, ...] = NAMES) -> Model:
    reader = Reader(names, App().features)
    weights = Linear(np.arange(1, len(names) + 1, dtype=np.float32))
    return Model("ranker", version, names, reader.definitions, weights)


@cache
def trees() -> TreeEnsemble:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 3)).astype(np.float32)
    parameters = {"verbose": -1, "use_missing": False, "num_leaves": 31, "min_data_in_leaf": 5}
    data = lightgbm.Dataset(features, features[:, 0].copy())
    booster = lightgbm.train(parameters | {"num_threads": 1}, data, 5)
    return TreeEnsemble.from_lightgbm(booster.dump_model())


def test_what_is_saved_is_loaded_and_scores_the_same(tmp_path: Path):
    store = ModelStore(tmp_path)
    saved = card()
    model = Model("ranker", 2, NAMES, "abc", trees())
    saved_hash = store.save(model, saved)
    kept = store.load("ranker@2")
    assert (kept.card, kept.sha256, kept.model.label) == (saved, saved_hash, "ranker@2")
    rows = np.random.default_rng(1).standard_normal((50, 3)).astype(np.float32)
    assert np.array_equal(kept.model.score(rows), model.score(rows))
    assert store.labels() == ["ranker@2"]
    assert (store.next_version("ranker"), store.next_version("other")) == (3, 1)
    with pytest.raises(FileExistsError):
        store.save(model, saved)


@pytest.mark.parametrize("label", ["../x@1", "ranker@0", "ranker", "Ranker@1", "a@1\n", "a@1/.."])
def test_a_label_that_is_none_is_refused(tmp_path: Path, label: str):
    with pytest.raises(Invalid, match="names no model"):
        ModelStore(tmp_path).load(label)


@pytest.mark.parametrize("file", ["manifest.json", "scorer.npz", "card.json"])
def test_any_changed_byte_is_noticed(tmp_path: Path, file: str):
    store = ModelStore(tmp_path)
    saved_hash = store.save(linear(), card())
    path = tmp_path / "ranker@1" / file
    content = bytearray(path.read_bytes())
    content[content.index(b"a")] ^= 1
    path.write_bytes(content)
    with suppress(Refused):
        assert store.load("ranker@1").sha256 != saved_hash


def tampered(folder: Path, **changed: Any) -> None:
    """Put other arrays into a saved model, under a manifest that fits."""
    packed = io.BytesIO()
    arrays = dict(np.load(folder / "scorer.npz"))
    np.savez(packed, **{**arrays, **changed})
    (folder / "scorer.npz").write_bytes(packed.getvalue())
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["scorer.npz"] = sha256(packed.getvalue()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"feature": np.full(1, 3, np.int32)}, "feature"),
        ({"first": np.zeros(6, np.int64)}, "first"),
        ({"value": np.full((5, 32), np.nan, np.float32)}, "finite"),
        ({"threshold": np.array([None])}, "allow_pickle"),
        ({"keep": np.zeros(1, np.uint32)}, "every leaf"),
    ],
)
def test_arrays_that_a_kernel_could_not_follow_are_refused(
    tmp_path: Path, changed: dict[str, Any], why: str
):
    store = ModelStore(tmp_path)
    store.save(Model("ranker", 1, NAMES, "abc", trees()), card())
    splits = len(np.load(tmp_path / "ranker@1" / "scorer.npz")["feature"])
    fitted = {
        name: np.resize(array, splits) if array.shape == (1,) and array.dtype != object else array
        for name, array in changed.items()
    }
    tampered(tmp_path / "ranker@1", **fitted)
    with pytest.raises(Refused, match=why):
        store.load("ranker@1")


def test_a_model_of_other_features_is_refused(tmp_path: Path):
    store, features = ModelStore(tmp_path), App().features
    models = Models(store, features)
    store.save(changed(linear(), features=("from_popular", "gone")), card())
    with pytest.raises(Refused, match="gone"):
        models.check("ranker@1")
    store.save(changed(linear(2), definitions="other"), card())
    with pytest.raises(Refused, match="other definitions"):
        models.check("ranker@2")


def changed(model: Model, **fields: Any) -> Model:
    model = replace(model, **fields)
    return replace(model, scorer=Linear(np.ones(len(model.features), np.float32)))


def test_a_model_no_better_than_popular_is_refused(tmp_path: Path):
    store = ModelStore(tmp_path)
    store.save(linear(), card(ndcg=0.1, popular=0.1))
    with pytest.raises(Refused, match=r"0\.1000 against 0\.1000"):
        Models(store, App().features).check("ranker@1")


def test_activation_is_a_record_and_outlives_a_restart(tmp_path: Path, caplog: Any):
    ModelStore(tmp_path / "models").save(linear(), card())
    engine = Engine.open(tmp_path, LIMITS)
    engine.ingest([Item(f"mug{n}", price=2.5) for n in range(5)], START_MS)
    assert engine.models.active == "default@1"
    activation = engine.models.check("ranker@1")
    report = engine.ingest([control_of(activation)], START_MS)
    assert (report.accepted, engine.models.active) == (1, "ranker@1")
    engine.close()
    engine = Engine.open(tmp_path, LIMITS)
    assert engine.models.active == "ranker@1"
    refused = engine.ingest(
        [{"kind": "control", "name": "model", "body": {"model": "x"}}], START_MS
    )
    assert refused.errors[0].code == "model"
    engine.close()
    (tmp_path / "models" / "ranker@1" / "scorer.npz").unlink()
    engine = Engine.open(tmp_path, LIMITS)
    assert engine.models.active == "default@1"
    assert "scorer.npz" in caplog.text
    assert engine.ingest([control_of(None)], START_MS).accepted == 1
    engine.close()


def test_without_a_store_there_is_the_default_only():
    models = Models(None, App().features)
    assert models.labels() == ["default@1"]
    assert models.check("default@1") is None
    with pytest.raises(Unknown):
        models.check("ranker@1")


def shop() -> State:
    state = State(LIMITS, App().features.accumulators(LIMITS))
    records: list[Any] = [Item(f"i{n}", category=f"c{n % 2}", price=1.0 + n) for n in range(8)]
    for n in range(4):
        for step, item in enumerate((1, 2, 3, 2)):
            at_ms = START_MS + n * 60_000 + step * 1_000
            records.append(Event("click", session=f"s{n}", user="u", item=f"i{item}", time=at_ms))
        at_ms = START_MS + n * 60_000 + 5_000
        item = f"i{3 + n % 2}"
        records.append(Event("purchase", session=f"s{n}", user="u", item=item, time=at_ms))
    state.apply(records, len(records))
    return state


def test_own_features_tell_place_count_and_purchases():
    state = shop()
    request = RecommendRequest("home", user="u", session="s3")
    visitor = find_visitor(state, request)
    names = ("own_place", "own_count", "known_bought_count", "own_category_last", "own_length")
    reader = Reader(names, App().features)
    scratch = make_scratch(state)
    now_ms = START_MS + 300_000
    found = find(state, sight_of(state), visitor, now_ms, scratch.finding)
    values = reader.read(state, found, visitor, now_ms, scratch.places)
    by_item = {
        state.items.names[row]: told.tolist() for row, told in zip(found.items, values, strict=True)
    }
    # The session saw 1, 2, 3, 2 and bought 4; the user bought 3, 4, 3, 4.
    assert by_item["i4"] == [0.0, 1.0, 2.0, 1.0, 5.0]
    assert by_item["i2"] == [1.0, 2.0, 0.0, 1.0, 5.0]
    assert by_item["i1"] == [4.0, 1.0, 0.0, 0.0, 5.0]
    again = reader.read(state, found, visitor, now_ms, scratch.places)
    assert np.array_equal(values, again), "the memory is as it was"


def test_a_prepared_list_is_the_models_order():
    state = shop()
    visitor = find_visitor(state, RecommendRequest("home", session="s3"))
    names = ("item_price",)
    definitions = Reader(names, App().features).definitions
    model = Model("dear", 1, names, definitions, Linear(np.ones(1, np.float32)))
    scratch = make_scratch(state)
    ranker = Ranker(model, App().features)
    made = prepare(state, sight_of(state), ranker, visitor, START_MS, scratch)
    prices = state.item.price_cents[made.listed.rows]
    assert len(prices) > 3
    assert (np.diff(prices) <= 0).all()
    assert (made.as_of, made.prepared_ms, made.model) == (state.offset, START_MS, "dear@1")
