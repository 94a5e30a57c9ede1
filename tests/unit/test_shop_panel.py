import json
import shlex
from io import StringIO

import pytest
from rich.console import Console, RenderableType

from onhand.offline.shop.panel import Scene, curl_lines, draw_panel, draw_summary, plain_line
from onhand.offline.shop.play import Play, Sample
from onhand.offline.shop.tally import Followed, SoldOut, Tally


@pytest.fixture(scope="module")
def play() -> Play:
    return Play()


@pytest.fixture
def scene(play: Play) -> Scene:
    tally = Tally(SoldOut())
    for micros in range(1, 1001):
        tally.pages.add(micros / 1e6)
    tally.events, tally.decisions, tally.offset, tally.played_ms = 28_240, 8_610, 231_234, 9_000_000
    tally.tiers.update(anonymous=60, content=30, collaborative=10)
    tally.newest.appendleft((8_000_000, "22423"))
    tally.followed = Followed(
        "followed-1", "85123A", ["22423"], [("22423", 12.75, 13), ("21137", 3.75, 592)], 0.71
    )
    return Scene(play, tally, "http://127.0.0.1:8080", 1800)


def text_of(drawn: RenderableType) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(drawn)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_panel_shows_what_happens(scene: Scene):
    scene.rates(10)
    scene.tally.events += 700
    text = text_of(draw_panel(scene, 10.5, 12, 20))
    for part in (
        "http://127.0.0.1:8080", "1,400", "28,940", "0.50 ms", "0.99 ms", "1.00 ms",
        "anonymous 60%", "Regency Cakestand 3 Tier", "White Hanging Heart T-Light H…",
        "0.7 ms later", "592 left", "12 s of 20 s", "231,234", "2:30 h played",
    ):  # fmt: skip
        assert part in text


def test_the_panel_keeps_its_height(play: Play, scene: Scene):
    empty = Scene(play, Tally(SoldOut()), "http://127.0.0.1:8080", 1800)
    first = text_of(draw_panel(empty, 0, 0, None))
    later = text_of(draw_panel(scene, 10, 12, None))
    assert len(first.splitlines()) == len(later.splitlines())
    assert "Ctrl-C ends it" in first


def test_a_plain_line_says_the_same_in_short(scene: Scene):
    line = plain_line(scene, 10, 12)
    assert "p50 0.50  p99 0.99  p99.9 1.00 ms" in line
    assert "offset 231,234" in line


def test_the_summary_names_sold_out_impressions(scene: Scene):
    scene.tally.impressions = 1_000
    scene.tally.sold_out_shown = ["22423", "22423"]
    text = text_of(draw_summary(scene, 20))
    assert "1,412 a second" in text
    assert "of 1,000 impressions" in text


def test_long_titles_are_cut_and_unknown_items_named_by_code(scene: Scene):
    assert scene.title("85123A", 10) == "White Han…"
    assert scene.title("no such") == "no such"


def test_the_curl_lines_are_commands():
    lines = curl_lines("http://127.0.0.1:8080", Sample("17850", "you", "85123A"))
    words = [shlex.split(line) for line in lines]
    assert [line[0] for line in words] == ["curl"] * 3
    click = json.loads(words[1][words[1].index("-d") + 1])
    assert click == {"type": "click", "session": "you", "item": "85123A"}
