"""`onhand simulate` for real: a short flash sale whose disk is full for a while."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from onhand.offline.simulation.run import Result

pytestmark = pytest.mark.live

COMMAND = [sys.executable, "-c", "from onhand.cli import main; main()", "simulate", "flash-sale"]
FAULT = ["--fault", "full-disk", "--fault-at", "2", "--fault-seconds", "2"]
SMALL = [
    "--rate",
    "300",
    "--events",
    "200",
    "--stock-changes",
    "200",
    "--history-days",
    "3",
    "--no-ranker",
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("simulate")
    done = subprocess.run(
        [*COMMAND, *SMALL, *FAULT, "--seconds", "6", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dead-end clicks" in done.stdout
    assert (out / "flash-sale-full-disk.png").read_bytes().startswith(b"\x89PNG")
    return read(out)


def read(out: Path) -> Result:
    (path,) = out.glob("*.json")
    return msgspec.json.decode(path.read_bytes(), type=Result)


def test_nothing_sold_out_is_shown_where_the_caches_show_some(result: Result):
    onhand, short, long = result.sold_out
    assert onhand == 0
    assert 0 < short <= long


def test_every_page_is_answered(result: Result):
    assert (result.whole.pages, result.whole.failed) == (1800, 0)
    assert result.impressions == 18_000
    assert result.clicks > 0


def test_clicks_are_judged_again_without_foresight(result: Result):
    again = result.foresight
    assert again is not None
    assert 0 < again.clicks <= result.clicks, "while the disk is full, records are lost"
    assert again.changed > 0


def test_every_acknowledged_record_is_kept(result: Result):
    assert 800 < result.events == result.acknowledged
    assert (result.lost, result.rejected, result.error) == (0, 0, "")
    assert sum(second.stock_changes for second in result.seconds) > 800


def test_the_event_loop_does_little_at_a_time(result: Result):
    assert 0 <= result.stretches.ran_long <= result.stretches.long < result.stretches.count / 10


def test_a_full_disk_puts_records_off_and_holds_up_no_page(result: Result):
    put_off = [second.put_off for second in result.seconds]
    assert sum(put_off[:2]) == 0 < sum(put_off[2:5])
    before, during, after = result.windows
    assert during.pages > 400
    assert before.failed == during.failed == after.failed == 0
    assert result.seconds[-1].events > 0, "records are taken again"
