from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from onhand.contracts.errors import Invalid
from onhand.contracts.records import Event, Item
from onhand.engine import Engine
from onhand.offline.shop.play import Play
from onhand.offline.shop.store import batches, clear_folder, load_shop


class SmallPlay(Play):
    """A play whose history is its first thousand events."""

    def past_events(self) -> Iterator[Event]:
        return islice(super().past_events(), 1_000)


def test_the_store_is_loaded_and_answers(tmp_path: Path):
    play = SmallPlay()
    heard: list[tuple[int, int]] = []
    loaded = load_shop(tmp_path, play, lambda done, total: heard.append((done, total)))
    assert (loaded.items, loaded.events) == (len(play.items()), 1_000)
    assert heard[-1] == (1_000, 1_000)
    engine = Engine.open(tmp_path)
    page = engine.recommend("home", session="somebody")
    assert engine.offset == loaded.items + loaded.events
    engine.close()
    assert len(page.items) == 10
    assert all(item.stock is not None and item.stock > 0 for item in page.items)


def test_a_record_that_the_store_refuses_ends_the_loading(tmp_path: Path):
    class Wrong(Play):
        def past_events(self) -> Iterator[Event]:
            return iter([Event("view", session="s", time=2**61)])

        def items(self) -> list[Item]:
            return []

    with pytest.raises(Invalid, match="refused"):
        load_shop(tmp_path, Wrong(), lambda done, total: None)


def test_a_new_folder_is_made_and_an_old_demo_is_cleared(tmp_path: Path):
    folder = tmp_path / "new"
    clear_folder(folder)
    (folder / "log.db").write_text("old")
    (folder / "checkpoints").mkdir()
    clear_folder(folder)
    assert [entry.name for entry in folder.iterdir()] == ["demo.json"]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(Invalid, match="holds something that no demo made"):
        clear_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_batches_hold_everything_in_order():
    events = [Event("view", id=str(n)) for n in range(12_345)]
    cut = list(batches(events))
    assert [len(batch) for batch in cut] == [5_000, 5_000, 2_345]
    assert [event for batch in cut for event in batch] == events
