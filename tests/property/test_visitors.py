from hypothesis import given
from hypothesis import strategies as st

from onhand.contracts.records import Event
from onhand.state.names import Rows
from streams import LIMITS, START_MS, folded


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_the_longest_silent_visitor_makes_room(visits: list[int]):
    """What is kept of visitors is what a state with room would have kept of the latest."""
    stream = [
        Event(
            "view", user=f"user{visit}", session=f"session{visit}", item="item1", time=START_MS + at
        )
        for at, visit in enumerate(visits)
    ]
    state = folded(stream)
    latest = list(dict.fromkeys(reversed(visits)))[: LIMITS.users - 1]
    assert set(state.users.rows) == {f"user{visit}" for visit in latest}
    assert set(state.sessions.rows) == {f"session{visit}" for visit in latest}
    rows = list(state.users.rows.values())
    assert len(set(rows)) == len(rows)
    assert 0 not in rows


def test_a_row_that_is_used_again_begins_empty():
    count = LIMITS.sessions + 3
    stream = [
        Event("purchase", session=f"session{number}", item="item1", time=START_MS + number)
        for number in range(count)
    ]
    state = folded(stream)
    for row in state.sessions.rows.values():
        assert state.session.interactions[row] == 1
        assert state.session.bought_item[row].tolist()[1] == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans())))
def test_rows_in_parts_are_a_dict(steps: list[tuple[int, bool]]):
    rows, expected = Rows(), dict[str, int]()
    for row, (number, enters) in enumerate(steps):
        name = f"visitor{number}"
        if enters:
            rows[name] = expected[name] = row
        else:
            assert rows.pop(name, None) == expected.pop(name, None)
        assert rows.get(name, 0) == expected.get(name, 0)
    assert rows == expected
    assert len(rows) == len(expected)
