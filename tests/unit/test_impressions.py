from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from onhand.contracts.errors import Invalid
from onhand.offline.impressions import CLICK, FEATURES, _read, evaluate_impressions


def write(path: Path, rows: list[tuple[str, int, str, str, list[int]]]) -> Path:
    """Rows of (session, second, action, item, prices); the shown items are numbered from 0."""
    frame = pl.DataFrame(
        [
            {
                "session_id": session,
                "timestamp": second,
                "step": step,
                "action_type": action,
                "reference": item,
                "impressions": "|".join(map(str, range(len(prices)))) if prices else None,
                "prices": "|".join(map(str, prices)) if prices else None,
            }
            for step, (session, second, action, item, prices) in enumerate(rows)
        ]
    )
    frame.write_parquet(path)
    return path


def quiet(*_: object) -> None:
    pass


def test_features_know_what_was_before_the_click_only(tmp_path: Path):
    rows = [
        ("s", 100, "interaction item image", "2", []),
        ("s", 110, CLICK, "1", [30, 10, 20]),
        ("s", 130, CLICK, "1", [30, 10, 20]),
    ]
    lists = _read(write(tmp_path / "log.parquet", rows), quiet)
    assert lists.sizes.tolist() == [3, 3]
    assert lists.clicked.tolist() == [1, 1]
    columns = {name: at for at, name in enumerate(FEATURES)}
    first, second = lists.features[:3], lists.features[3:]
    assert first[:, columns["clicks"]].tolist() == [0, 0, 0]
    assert second[:, columns["clicks"]].tolist() == [0, 1, 0]
    assert first[:, columns["from_last"]].tolist() == [-2, -1, 0]
    assert second[:, columns["from_last"]].tolist() == [-1, 0, 1]
    assert first[:, columns["price_place"]].tolist() == [2, 0, 1]
    assert first[:, columns["own_s"]].tolist() == [86400, 86400, 10]


def test_what_decides_is_learned(tmp_path: Path):
    rng = Random(2)
    rows: list[tuple[str, int, str, str, list[int]]] = []
    for number in range(600):
        prices = rng.sample(range(50, 200), 8)
        cheapest = str(int(np.argmin(prices)))
        rows.append((f"s{number}", 1_000 + number, CLICK, cheapest, prices))
    path = write(tmp_path / "log.parquet", rows)
    result = evaluate_impressions(path, 0.3, seed=0, n_threads=1, report=quiet)
    assert result.lists == result.sessions == 180
    assert result.model > 0.95
    assert result.shown_order < 0.5


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"session_id": ["s"]}).write_parquet(path)
    with pytest.raises(Invalid, match="timestamp"):
        evaluate_impressions(path, 0.2, seed=0, n_threads=1, report=quiet)
    write(path, [("s", 1, CLICK, "1", [3, 4])])
    with pytest.raises(Invalid, match="fewer than"):
        evaluate_impressions(path, 0.2, seed=0, n_threads=1, report=quiet)
