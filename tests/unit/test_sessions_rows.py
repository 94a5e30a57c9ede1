import numpy as np
import pytest

from onhand.retrieval.sessions.index import SessionIndex
from onhand.retrieval.sessions.rows import GrowingRows


def empty_rows(limit: int = 0) -> GrowingRows:
    return GrowingRows(
        np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), limit=limit
    )


def test_rows_grow_in_turns():
    rows = empty_rows()
    for value in range(20):
        rows.append(value % 3, value)
    assert rows.n_rows == 3
    assert rows.row(1).tolist() == [1, 4, 7, 10, 13, 16, 19]


def test_a_full_row_drops_its_oldest_value():
    rows = empty_rows(limit=5)
    for value in range(12):
        rows.append(0, value)
    assert sorted(rows.row(0).tolist()) == [7, 8, 9, 10, 11]


def test_a_session_keeps_distinct_items_in_order_of_first_touch():
    index = SessionIndex(np.array([0, 4]), np.array([2, 1, 2, 0], np.int32), 3)
    assert index.sessions.row(0).tolist() == [2, 1, 0]
    assert index.sessions_of.tolist() == [1, 1, 1]


def test_a_session_number_may_not_be_skipped():
    index = SessionIndex(np.array([0, 1]), np.array([0], np.int32), 1)
    with pytest.raises(IndexError, match="session 5"):
        index.add(5, 0)
