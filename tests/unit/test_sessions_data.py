from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from onhand.offline.session_data import SessionDataError, read_test, read_training


def rows(path: Path, **columns: Sequence[object]) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


@pytest.fixture
def unsorted(tmp_path: Path):
    return rows(
        tmp_path / "rows.parquet",
        session=["late", "early", "late", "early", "once"],
        item=[30, 10, 20, 20, 10],
        time=[1_700_000_500.0, 1_700_000_010.0, 1_700_000_400.0, 1_700_000_000.0, 1_700_000_100.0],
        category=["b", "a", "c", "c", None],
    )


def test_sessions_are_ordered_by_time(unsorted: Path):
    training = read_training(unsorted)
    ids = training.ids.to_list()
    names = [ids[item] for item in training.sessions.items]
    assert training.sessions.offsets.tolist() == [0, 2, 3, 5]
    assert names == ["20", "10", "10", "20", "30"]


def test_every_click_but_the_first_is_a_prediction(unsorted: Path):
    training = read_training(unsorted)
    queries = read_test(unsorted, training.ids)
    ids = training.ids.to_list()
    made = [
        ([ids[item] for item in queries.clicks(q)[0]], ids[queries.label[q]])
        for q in range(len(queries))
    ]
    assert made == [(["20"], "10"), (["20"], "30")]


def test_categories_are_an_items_newest(unsorted: Path):
    training = read_training(unsorted)
    by_id = dict(zip(training.ids.to_list(), training.category.tolist(), strict=True))
    assert by_id["20"] == training.category[training.sessions.items[0]]
    assert len({by_id["10"], by_id["20"], by_id["30"]}) == 3


def test_milliseconds_and_dates_are_seconds(tmp_path: Path):
    numbers = rows(
        tmp_path / "a", session=[1, 1], item=[1, 2], time=[1_700_000_000_000, 1_700_000_007_000]
    )
    assert read_training(numbers).sessions.times.tolist() == [1_700_000_000, 1_700_000_007]
    dates = rows(
        tmp_path / "b",
        session=[1, 1],
        item=[1, 2],
        time=["2023-11-14T22:13:20", "2023-11-14T22:13:27"],
    )
    assert read_training(dates).sessions.times.tolist() == [1_700_000_000, 1_700_000_007]


def test_lists_and_text_ids(tmp_path: Path):
    train, test = tmp_path / "train", tmp_path / "test"
    pl.DataFrame({"items": [["a", "b"], ["b"], []]}).write_parquet(train)
    pl.DataFrame({"prefix": [["a", "new"], [], ["b"]], "label": ["b", "a", "new"]}).write_parquet(
        test
    )
    training = read_training(train)
    assert training.sessions.offsets.tolist() == [0, 2, 3]
    queries = read_test(test, training.ids)
    assert [queries.clicks(q)[0].tolist() for q in range(3)] == [[0, -1], [], [1]]
    assert queries.label.tolist() == [1, 0, -1]


def test_ids_of_another_type_are_the_same_items(tmp_path: Path):
    train, test = tmp_path / "train", tmp_path / "test"
    pl.DataFrame({"items": [[7, 8]]}).write_parquet(train)
    pl.DataFrame({"prefix": [["7"]], "label": ["8"]}).write_parquet(test)
    queries = read_test(test, read_training(train).ids)
    assert queries.label.tolist() == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"session": [1], "item": [1]}, "lacks 'time'"),
        ({"session": [1], "item": [1], "time": ["soon"]}, "neither numbers nor dates"),
        ({"items": [3]}, "expected a list of items"),
        ({"session": [None], "item": [1], "time": [1.0]}, "no clicks"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, columns: dict[str, Sequence[object]], message: str):
    path = tmp_path / "bad.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(SessionDataError, match=message):
        read_training(path)


def test_a_file_that_is_not_parquet(tmp_path: Path):
    (tmp_path / "x").write_text("no")
    with pytest.raises(SessionDataError, match="cannot be read as Parquet"):
        read_training(tmp_path / "x")
    with pytest.raises(SessionDataError, match="There is no file"):
        read_training(tmp_path / "absent")
