import numpy as np
import pytest
from numpy.typing import NDArray

from onhand.offline import metrics


@pytest.fixture
def rank():
    lists = np.array([[4, 2, 9], [1, -1, -1], [7, 8, 3], [5, 6, -1]], np.int32)
    labels = np.array([2, 1, 5, -1], np.int32)
    return metrics.ranks(lists, labels)


def test_ranks_count_from_one_and_a_miss_is_zero(rank: NDArray[np.int64]):
    assert rank.tolist() == [2, 1, 0, 0]


def test_means_are_over_every_prediction(rank: NDArray[np.int64]):
    assert metrics.hit_rate(rank) == pytest.approx(2 / 4)
    assert metrics.mean_reciprocal_rank(rank) == pytest.approx((1 / 2 + 1) / 4)
    assert metrics.ndcg(rank) == pytest.approx((1 / np.log2(3) + 1) / 4)


def test_padding_is_not_an_item():
    assert metrics.coverage(np.array([[3, -1], [3, 1]], np.int32), 4) == pytest.approx(0.5)
