"""What `docs/demo.md` and the data's README say is so."""

import inspect
from pathlib import Path

from onhand.cli.demo import demo
from onhand.offline.shop import ledger
from onhand.offline.shop.play import FIRST_UNTIL, HISTORY_DAYS, SHOPPERS_LIVE, UNTIL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "demo.md").read_text()


def test_every_option_is_documented_with_its_default():
    parameters = inspect.signature(demo).parameters
    assert set(parameters) == {"seconds", "data", "port", "speed", "until"}
    for name in parameters:
        assert f"| `--{name} " in PAGE
    assert f"| {parameters['speed'].default} |" in PAGE
    assert f"| {parameters['port'].default} |" in PAGE


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert f"| {UNTIL} | the day that is played first, between {FIRST_UNTIL}" in PAGE
    assert f"and {ledger.LAST_DAY} |" in PAGE
    assert f"the last {HISTORY_DAYS} days" in PAGE
    assert f"{SHOPPERS_LIVE} for each buyer" in PAGE


def test_the_data_names_its_source_and_licence():
    text = (ledger.FOLDER / "README.md").read_text()
    for part in ("Daqing Chen", "UCI Machine Learning Repository", "Creative Commons Attribution"):
        assert part in text
    assert f"{len(ledger.catalogue()):,} products" in text
