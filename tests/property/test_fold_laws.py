import tempfile
from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from onhand.contracts.records import Event, Record
from onhand.state import checkpoint
from onhand.state.state import State
from onhand.state.texts import decode, encode
from streams import FEATURES, LIMITS, content, folded, streams


@given(streams, st.lists(st.integers(0, 60), max_size=4))
def test_folding_a_batch_equals_folding_its_records(stream: list[Record], cuts: list[int]):
    one_by_one = content(folded(*([record] for record in stream)))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert content(folded(stream)) == one_by_one
    assert content(folded(*parts)) == one_by_one


@given(streams, st.data())
def test_folding_a_duplicate_changes_nothing(stream: list[Record], data: st.DataObject):
    state = folded(stream)
    known = [r for r in stream if isinstance(r, Event) and r.id is not None and r.id in state.seen]
    again = data.draw(st.lists(st.sampled_from(known), max_size=5)) if known else []
    before = content(state)
    state.apply(again, state.offset)
    assert content(state) == before


@given(streams, st.integers(0, 60))
def test_checkpoint_and_tail_equal_the_whole_log(stream: list[Record], cut: int):
    head, tail = stream[:cut], stream[cut:]
    state = folded(head)
    dump, schema = state.dump(), state.schema
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.save(folder, dump.texts.offset, schema, *dump.encode())
        kept = checkpoint.load_latest(folder, schema)
    assert kept is not None
    state = State.restore(kept.arrays, kept.values, LIMITS, FEATURES.accumulators(LIMITS))
    state.apply(tail, state.offset + len(tail))
    assert content(state) == content(folded(stream))


@given(streams, st.integers(0, 60))
def test_a_dump_is_the_same_in_memory_that_was_made_before(stream: list[Record], cut: int):
    state = folded(stream[:cut])
    room = state.room()
    state.apply(stream[cut:], len(stream))
    arrays, values = state.dump(room).encode()
    assert {name: array.tobytes() for name, array in arrays.items()} | values == content(state)


def test_texts_come_back_from_their_pieces():
    count = 3 * 4_096 + 5
    names = [f"name{number}" for number in range(count)]
    texts = msgspec.structs.replace(
        folded().dump().texts, users=names, bands=dict.fromkeys(range(count), 1), late=7
    )
    values = encode(texts)
    assert max(map(len, values.values())) < 70_000
    assert decode(values) == texts
    assert list(decode(values).bands) == list(texts.bands)


@given(streams, streams)
def test_a_dump_is_not_changed_by_what_follows(stream: list[Record], more: list[Record]):
    state = folded(stream)
    dump = state.dump()
    before = {name: array.tobytes() for name, array in dump.arrays.items()}, dump.encode()[1]
    state.apply(more, state.offset + len(more))
    after = {name: array.tobytes() for name, array in dump.arrays.items()}, dump.encode()[1]
    assert after == before
