"""The checkpoint file: what comes back, what is passed over and why, what is kept."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from onhand.state.checkpoint import Array, load_latest, save

SCHEMA = "state/1"
ARRAYS: dict[str, Array] = {
    "stock": np.arange(7, dtype=np.int64),
    "held": np.array([True, False]),
    "price": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "empty": np.empty((0, 5), np.int32),
    "scalar": np.array(3.5),
    "country": np.array(["GB", "DE"]),
    "when": np.array(["2011-12-09"], "datetime64[ms]"),
    "big_endian": np.array([1, 2], ">u4"),
}
VALUES = {"names": b"85123A\n", "nothing": b""}


def test_everything_comes_back_equal_and_writable(tmp_path: Path) -> None:
    path = save(tmp_path, 18_231, SCHEMA, ARRAYS, VALUES)
    assert path.parent.parent == tmp_path
    loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert loaded.offset == 18_231
    assert loaded.values == VALUES
    assert list(loaded.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert loaded.arrays[name].shape == array.shape
        assert loaded.arrays[name].tobytes() == array.tobytes()
        assert loaded.arrays[name].flags.writeable


def test_an_array_in_any_memory_order_is_saved_by_value(tmp_path: Path) -> None:
    table = np.arange(20).reshape(4, 5)
    save(tmp_path, 1, SCHEMA, {"columns": np.asfortranarray(table), "every_2nd": table[::2]}, {})
    loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert (loaded.arrays["columns"] == table).all()
    assert (loaded.arrays["every_2nd"] == table[::2]).all()


def test_larger_than_a_chunk(tmp_path: Path) -> None:
    column = np.random.default_rng(1).integers(0, 255, 3_000_001, dtype=np.uint8)
    save(tmp_path, 1, SCHEMA, {"column": column}, {"text": column.tobytes()})
    loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert (loaded.arrays["column"] == column).all()
    assert loaded.values["text"] == column.tobytes()


def test_no_folder_and_an_empty_folder_hold_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path, SCHEMA) is None
    assert load_latest(tmp_path / "absent", SCHEMA) is None


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array([(1, 2)], [("a", "i4"), ("b", "i4")])],
    ids=["objects", "records"],
)
def test_what_is_no_plain_column_is_refused(tmp_path: Path, array: Array) -> None:
    with pytest.raises(ValueError, match="array 'odd' has dtype"):
        save(tmp_path, 1, SCHEMA, {"odd": array}, {})
    assert list(tmp_path.iterdir()) == []


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    for offset in (5, 40, 300):
        save(tmp_path, offset, SCHEMA, {}, {"at": str(offset).encode()})
    loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert (loaded.offset, loaded.values["at"]) == (300, b"300")
    assert len(list(tmp_path.rglob("*.checkpoint"))) == 2


def test_the_same_offset_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 5, SCHEMA, {}, {"at": b"before"})
    save(tmp_path, 5, SCHEMA, {}, {"at": b"after"})
    loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert loaded.values["at"] == b"after"


def test_one_saved_at_a_lower_offset_replaces_those_ahead_of_it(tmp_path: Path) -> None:
    for offset in (5, 40, 300, 41):
        save(tmp_path, offset, SCHEMA, {}, {})
    assert sorted(int(path.stem) for path in tmp_path.rglob("*.checkpoint")) == [40, 41]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cut off"),
        (lambda content: content[:10], "cut off"),
        (lambda content: b"", "cut off"),
        (lambda content: content[:-1], "cut off"),
        (lambda content: content + b"\0", "cut off"),
        (lambda content: content[:9] + b"\xff" + content[10:], "checksum does not match"),
        (lambda content: content[:8] + b"\0" + content[8:], "size is not what"),
        (lambda content: content[:-100] + b"\xff" + content[-99:], "footer is damaged"),
    ],
)
def test_a_damaged_one_falls_back_and_says_why(
    tmp_path: Path, damage: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, SCHEMA, ARRAYS, VALUES)
    path = save(tmp_path, 2, SCHEMA, ARRAYS, VALUES)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        loaded = load_latest(tmp_path, SCHEMA)
    assert loaded is not None
    assert loaded.offset == 1
    assert path.name in caplog.text
    assert reason in caplog.text


def test_another_schema_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path, 1, "state/2", ARRAYS, VALUES)
    assert load_latest(tmp_path, SCHEMA) is None
    assert "no checkpoint in" in caplog.text
    moved = save(tmp_path, 2, SCHEMA, {}, {})
    path.rename(moved)
    assert load_latest(tmp_path, SCHEMA) is None
    assert "its schema is 'state/2', this version's is 'state/1'" in caplog.text


def test_two_of_each_of_two_schemas_are_kept(tmp_path: Path) -> None:
    def offsets(schema: str) -> list[int]:
        found = (load_latest(tmp_path, schema, offset) for offset in range(1, 9))
        return sorted({each.offset for each in found if each is not None})

    for offset, schema in enumerate(("a", "b", "a", "b", "a", "b"), 1):
        save(tmp_path, offset, schema, {}, {})
    assert (offsets("a"), offsets("b")) == ([3, 5], [4, 6])
    save(tmp_path, 7, "c", {}, {})
    assert (offsets("a"), offsets("b"), offsets("c")) == ([], [4, 6], [7])


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_refusing_disk_leaves_the_one_before(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, SCHEMA, ARRAYS, VALUES)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "rename")), refuse)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2, SCHEMA, ARRAYS, VALUES)
    monkeypatch.undo()
    assert [int(path.stem) for path in tmp_path.rglob("*.*")] == [1]


def test_one_left_half_written_is_ignored_and_cleared(tmp_path: Path) -> None:
    partial = save(tmp_path, 9, SCHEMA, {}, {}).with_suffix(".partial")
    partial.with_suffix(".checkpoint").rename(partial)
    others = save(tmp_path, 9, "state/2", {}, {}).with_suffix(".partial")
    others.write_bytes(b"half, by another process")
    assert load_latest(tmp_path, SCHEMA) is None
    save(tmp_path, 10, SCHEMA, {}, {})
    assert not partial.exists()
    assert others.exists()
