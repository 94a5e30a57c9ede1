"""The best n of a set of numbered scores, in a total order, so results never depend on chance."""

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import kernel

__all__ = ["best"]


@kernel
def best(
    touched: NDArray[np.int32],
    n_touched: int,
    scores: NDArray[np.float32],
    column: int,
    n: int,
    heap: NDArray[np.int32],
) -> int:
    """Put the `n` best of `touched[:n_touched]` into `heap`, in no order; return their number.

    `scores` is float32 (any, columns); a number's score is `scores[number, column]`. Equal
    scores go to the larger number, which for sessions is the newer one. A heap of the best so
    far beats a partition here: most of 15,000 sessions lose against its root at once.
    """
    size = 0
    for place in range(n_touched):
        number = touched[place]
        score = scores[number, column]
        if size < n:
            _rise(heap, size, number, score, scores, column)
            size += 1
        else:
            root = heap[0]
            lowest = scores[root, column]
            if score > lowest or (score == lowest and number > root):
                _sink(heap, size, number, score, scores, column)
    return size


@kernel
def _rise(
    heap: NDArray[np.int32],
    place: int,
    number: int,
    score: float,
    scores: NDArray[np.float32],
    column: int,
) -> None:
    while place > 0:
        parent = (place - 1) >> 1
        other = heap[parent]
        other_score = scores[other, column]
        if other_score < score or (other_score == score and other < number):
            break
        heap[place] = other
        place = parent
    heap[place] = number


@kernel
def _sink(
    heap: NDArray[np.int32],
    size: int,
    number: int,
    score: float,
    scores: NDArray[np.float32],
    column: int,
) -> None:
    place = np.int64(0)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = heap[child]
        other_score = scores[other, column]
        if child + 1 < size:
            right = heap[child + 1]
            right_score = scores[right, column]
            if right_score < other_score or (right_score == other_score and right < other):
                child += 1
                other = right
                other_score = right_score
        if score < other_score or (score == other_score and number < other):
            break
        heap[place] = other
        place = child
    heap[place] = number
