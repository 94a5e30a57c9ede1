"""A checkpoint is loaded as it was saved, or not at all."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from onhand.state.checkpoint import Array, load_latest, save

names = st.text(max_size=8)
columns = arrays_of.arrays(
    dtype=st.one_of(
        arrays_of.integer_dtypes(),
        arrays_of.floating_dtypes(),
        arrays_of.boolean_dtypes(),
        arrays_of.byte_string_dtypes(min_len=1, max_len=4),
        arrays_of.unicode_string_dtypes(min_len=1, max_len=4),
    ),
    shape=arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
contents = st.tuples(
    st.integers(0, 2**62),
    st.dictionaries(names, columns, max_size=4),
    st.dictionaries(names, st.binary(max_size=40), max_size=4),
)
Content = tuple[int, dict[str, Array], dict[str, bytes]]


@given(contents)
@settings(max_examples=40, deadline=None)
def test_what_was_saved_is_loaded_to_the_byte(content: Content) -> None:
    offset, arrays, values = content
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), offset, "s", arrays, values)
        loaded = load_latest(Path(folder), "s")
        assert loaded is not None
        assert (loaded.offset, loaded.values) == (offset, values)
        assert {name: described(array) for name, array in loaded.arrays.items()} == {
            name: described(array) for name, array in arrays.items()
        }
        saved = next(Path(folder).rglob("*.checkpoint")).read_bytes()
        assert save(Path(folder), *loaded[:1], "s", *loaded[1:]).read_bytes() == saved


def described(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_one_with_any_bit_flipped_is_not_loaded(data: st.DataObject) -> None:
    offset, arrays, values = data.draw(contents)
    with tempfile.TemporaryDirectory() as folder:
        path = save(Path(folder), offset, "s", arrays, values)
        whole = path.read_bytes()
        for place in data.draw(st.lists(st.integers(0, 8 * len(whole) - 1), max_size=20)):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            assert load_latest(Path(folder), "s") is None


def test_each_single_bit_of_a_small_one(tmp_path: Path) -> None:
    path = save(tmp_path, 7, "s", {"a": np.arange(3, dtype=np.int16)}, {"v": b"xy"})
    whole = path.read_bytes()
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert load_latest(tmp_path, "s") is None
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert load_latest(tmp_path, "s") is None
