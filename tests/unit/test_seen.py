"""Ids that were seen: what two generations of them remember, and what a checkpoint keeps."""

from hypothesis import given
from hypothesis import strategies as st

from onhand.state.seen import Seen

ids = st.text(max_size=3) | st.text("é", min_size=60, max_size=200)


def restored(seen: Seen) -> Seen:
    again = Seen(seen.generation)
    again.restore({name: array.copy() for name, array in seen.used().items()})
    return again


@given(st.integers(1, 8), st.lists(st.lists(ids, max_size=12), max_size=6))
def test_two_generations_are_remembered_also_across_a_restart(
    generation: int, batches: list[list[str]]
):
    seen = Seen(generation)
    young: list[str] = []
    old: list[str] = []
    for batch in batches:
        expected: list[bool] = []
        for id in batch:
            expected.append(id not in young and id not in old)
            if expected[-1]:
                young.append(id)
            if len(young) == generation:
                young, old = [], young
        assert seen.add(batch).tolist() == expected
        seen = restored(seen)
        assert seen.among(batch) == set(batch) & {*young, *old}
    assert all(id in seen for id in young + old)
