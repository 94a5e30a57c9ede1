"""The command as a user runs it, on the set that comes with the field's reference code."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

SERENADE = Path(__file__).parents[3] / "shared" / "data" / "serenade_toy"


def evaluate(train: Path, test: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onhand.cli.evaluate", "sessions"]
    return subprocess.run(
        [*command, "--train", str(train), "--test", str(test), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.live
@pytest.mark.skipif(not SERENADE.exists(), reason="needs ../shared/data/serenade_toy")
def test_it_beats_the_published_result():
    done = evaluate(SERENADE / "train.parquet", SERENADE / "test.parquet", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["n"] == 931
    assert result["mrr@20"] > 0.35  # published .3401
    assert result["hr@20"] > result["ndcg@20"] > result["mrr@20"]
    assert 0 < result["coverage@20"] < 1
    assert 0 < result["p50_us"] <= result["p99_us"]


@pytest.mark.live
def test_tiny_lists_and_a_table(tmp_path: Path):
    train, test = tmp_path / "train.parquet", tmp_path / "test.parquet"
    pl.DataFrame({"items": [[f"i{k % 7}", f"i{k % 5}"] for k in range(20)]}).write_parquet(train)
    pl.DataFrame(
        {"prefix": [["i1"], [], ["never seen"]], "label": ["i2", "i0", "new"]}
    ).write_parquet(test)
    done = evaluate(train, test)
    assert done.returncode == 0, done.stderr
    assert "own items by recency" in done.stdout
    assert "3 predictions" in done.stdout


@pytest.mark.live
def test_a_missing_column_is_explained(tmp_path: Path):
    path = tmp_path / "bad.parquet"
    pl.DataFrame({"session": [1], "thing": [2]}).write_parquet(path)
    done = evaluate(path, path)
    assert done.returncode == 2
    assert "lacks 'item', 'time'" in done.stderr
    assert "Traceback" not in done.stderr
