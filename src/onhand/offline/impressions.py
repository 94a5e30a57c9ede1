"""Re-ranking shown lists: which of the items on a page will be clicked.

Reads a log of sessions in which clicks carry the list that was on the page, as that of the RecSys
Challenge 2019 (trivago): Parquet with a row an action and the columns `session_id`, `timestamp`
(seconds), `step`, `action_type`, `reference` (the item), `impressions` and `prices` (lists with
bars between), the last two on rows whose action is `clickout item`; `user_id` where known.

Rows are read once, in order of time, and features are taken before the click is told, so they
know what had happened and nothing else. Sessions are split by when they began: the ranker learns
from the earlier ones and is judged by every click of the later ones.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid
from onhand.offline import metrics
from onhand.offline.listwise import Groups, RankerSettings, train_ranker, tune_ranker
from onhand.offline.training import Progress
from onhand.ranking.trees import TreeEnsemble

__all__ = ["FEATURES", "Reranking", "evaluate_impressions"]

CLICK: Final = "clickout item"
FEATURES: Final = (
    "place",  # on the page, the first 0
    "shown",  # how many are on it
    "price",
    "price_place",  # among the shown, the cheapest 0
    "price_ratio",  # over the mean of the shown
    "own_steps",  # since the session last touched the item; 200 where it has not
    "own_count",
    "own_clicks",
    "own_details",  # looks at its pictures, ratings, deals or texts
    "own_s",  # seconds since it was touched; a day where it was not
    "last_place",  # of the last touched item on the page; 50 where it is not there
    "from_last",  # places below the last touched item
    "from_last_click",  # places below the last clicked item
    "price_to_last",  # ratio of its price to that of the last touched item
    "session_items",  # distinct items touched
    "session_steps",
    "user_clicks",  # of the item, by this user, in all sessions
    "clicks",  # of the item by all so far
    "click_rate",  # over how often it was shown
    "touches",  # by others
    "neighbours_touched",  # of the two items beside it on the page, in this session
)
_COLUMNS: Final = ("session_id", "timestamp", "step", "action_type", "reference", "impressions",
                   "prices")  # fmt: skip
_NEVER_STEPS: Final = 200.0
_DAY_S: Final = 86_400.0
_AWAY: Final = 50.0
_LEAST_GROUPS: Final = 100


@dataclass
class _Session:
    """What a session has done."""

    steps: int = 0
    last: str = ""
    last_click: str = ""
    touched: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Step and second of the latest touch, by item."""
    counts: Counter[str] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)


@dataclass
class _World:
    """What everybody has done."""

    clicks: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    touches: Counter[str] = field(default_factory=Counter)
    by_user: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    sessions: dict[str, _Session] = field(default_factory=lambda: defaultdict(_Session))


class _Lists(NamedTuple):
    """Shown lists in order of time: features, (rows, FEATURES), list after list; `sizes` and the
    place of the click, (lists,); `began_s` is when the list's session began."""

    features: NDArray[np.float32]
    sizes: NDArray[np.int64]
    clicked: NDArray[np.int64]
    began_s: NDArray[np.int64]


class Reranking(NamedTuple):
    """Mean reciprocal rank of the clicked item over the lists of held-out sessions."""

    lists: int
    sessions: int
    model: float
    shown_order: float
    last_touched_first: float
    trees: int


def evaluate_impressions(
    path: Path, held_out: float, *, seed: int, n_threads: int, report: Progress
) -> Reranking:
    """Learn from the earlier sessions, re-rank the lists of the latest `held_out` share. Raises
    `Invalid` where the file cannot be used."""
    lists = _read(path, report)
    began_s = np.unique(lists.began_s)
    cut_s = int(np.quantile(began_s, 1 - held_out)) if len(began_s) else 0
    newer = lists.began_s > cut_s
    if min(int(newer.sum()), int((~newer).sum())) < _LEAST_GROUPS:
        raise Invalid(
            "too_little", f"{path}: fewer than {_LEAST_GROUPS} shown lists on a side of the split."
        )
    groups = _groups(lists, ~newer)
    chosen = tune_ranker(
        groups, (RankerSettings(n_trees=400, learning_rate=0.05),), seed=seed, n_threads=n_threads,
        report=lambda done, total: report("tuning", done, total),
    )  # fmt: skip
    booster = train_ranker(
        groups, chosen, seed=seed, n_threads=n_threads,
        report=lambda done, total: report("ranker", done, total),
    )  # fmt: skip
    trees = TreeEnsemble.from_lightgbm(booster.dump_model())
    columns = {name: at for at, name in enumerate(FEATURES)}
    ranks: dict[str, list[int]] = {"model": [], "shown": [], "last": []}
    starts = np.cumsum(lists.sizes) - lists.sizes
    for at in np.flatnonzero(newer).tolist():
        features = lists.features[starts[at] : starts[at] + lists.sizes[at]]
        place = features[:, columns["place"]]
        last = np.where(features[:, columns["from_last"]] == 0, 1000, -place)
        for name, score in (("model", trees.score(features)), ("shown", -place), ("last", last)):
            order = np.argsort(-score, kind="stable")
            ranks[name].append(int(np.flatnonzero(order == lists.clicked[at])[0]) + 1)
    model, shown, last = (
        metrics.mean_reciprocal_rank(np.array(each, np.int64)) for each in ranks.values()
    )
    sessions = int((began_s > cut_s).sum())
    return Reranking(int(newer.sum()), sessions, model, shown, last, trees.n_trees)


def _groups(lists: _Lists, chosen: NDArray[np.bool_]) -> Groups:
    gains = np.zeros(len(lists.features), np.float32)
    gains[np.cumsum(lists.sizes) - lists.sizes + lists.clicked] = 1
    rows = np.repeat(chosen, lists.sizes)
    return Groups(lists.features[rows], lists.sizes[chosen], gains[rows])


def _read(path: Path, report: Progress) -> _Lists:
    try:
        rows = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Invalid("impressions", f"{path}: {error}") from None
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise Invalid("impressions", f"{path} has no column {', '.join(missing)}.")
    if "user_id" not in rows.columns:
        rows = rows.with_columns(pl.col("session_id").alias("user_id"))
    rows = rows.sort("timestamp", "session_id", "step")
    began = rows.group_by("session_id").agg(pl.col("timestamp").min().alias("began"))
    rows = rows.join(began, on="session_id", maintain_order="left")
    world = _World()
    parts: list[NDArray[np.float32]] = []
    clicked: list[int] = []
    began_s: list[int] = []
    for done, row in enumerate(rows.iter_rows(named=True), 1):
        if done % 10_000 == 0 or done == len(rows):
            report("reading", done, len(rows))
        if row["action_type"] == CLICK and row["impressions"]:
            items = row["impressions"].split("|")
            if row["reference"] in items and len(items) > 1:
                parts.append(_features(row, items, world))
                clicked.append(items.index(row["reference"]))
                began_s.append(row["began"])
            world.shown.update(items)
        _take(row, world)
    return _Lists(
        np.concatenate(parts) if parts else np.zeros((0, len(FEATURES)), np.float32),
        np.array([len(part) for part in parts], np.int64),
        np.array(clicked, np.int64),
        np.array(began_s, np.int64),
    )


def _take(row: dict[str, Any], world: _World) -> None:
    """Learn what a row tells."""
    session = world.sessions[row["session_id"]]
    session.steps += 1
    item = row["reference"]
    if item is None or not item.isdigit():
        return
    session.last = item
    session.touched[item] = (session.steps, row["timestamp"])
    session.counts[item] += 1
    world.touches[item] += 1
    if row["action_type"] == CLICK:
        session.last_click = item
        session.clicks[item] += 1
        world.clicks[item] += 1
        world.by_user[row["user_id"]][item] += 1


def _features(row: dict[str, Any], items: list[str], world: _World) -> NDArray[np.float32]:
    """Return the features of a shown list as of before its click, (items, FEATURES)."""
    session, mine = world.sessions[row["session_id"]], world.by_user[row["user_id"]]
    prices = [float(price) for price in (row["prices"] or "").split("|") if price]
    if len(prices) != len(items):
        prices = [1.0] * len(items)
    mean = sum(prices) / len(prices)
    cheaper = {at: place for place, at in enumerate(np.argsort(prices, kind="stable").tolist())}
    at_last = items.index(session.last) if session.last in items else -1
    at_click = items.index(session.last_click) if session.last_click in items else -1
    values = np.zeros((len(items), len(FEATURES)), np.float32)
    for at, item in enumerate(items):
        step, second = session.touched.get(item, (None, 0))
        beside = items[max(0, at - 1) : at] + items[at + 1 : at + 2]
        count, clicks = session.counts[item], session.clicks[item]
        values[at] = (
            at,
            len(items),
            prices[at],
            cheaper[at],
            prices[at] / max(mean, 1e-9),
            _NEVER_STEPS if step is None else session.steps - step,
            count,
            clicks,
            count - clicks,
            _DAY_S if step is None else min(row["timestamp"] - second, _DAY_S),
            at_last if at_last >= 0 else _AWAY,
            at - at_last if at_last >= 0 else _AWAY,
            at - at_click if at_click >= 0 else _AWAY,
            prices[at] / max(prices[at_last], 1e-9) if at_last >= 0 else 1.0,
            len(session.touched),
            session.steps,
            mine[item],
            world.clicks[item],
            (world.clicks[item] + 1) / (world.shown[item] + 20),
            world.touches[item] - count,
            sum(other in session.touched for other in beside),
        )
    return values
