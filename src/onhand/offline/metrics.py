"""Accuracy of recommended lists: hit rate, reciprocal rank, discounted gain, coverage.

All take lists as int32 (predictions, k), best first, padded with -1, and labels as int32
(predictions,) with -1 for an item that cannot be recommended; that one is always a miss. A list
has a strict order, so equal scores were already resolved without knowing the label.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["coverage", "gains_at", "hit_rate", "mean_reciprocal_rank", "ndcg", "ranks"]


def ranks(lists: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """The label's place in its list from 1 on, 0 when it is not there; int64 (predictions,)."""
    hit = (lists == labels[:, None]) & (labels[:, None] >= 0)
    if lists.shape[1] == 0:
        return np.zeros(len(labels), np.int64)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0).astype(np.int64)


def hit_rate(rank: NDArray[np.int64]) -> float:
    """Share of predictions whose label is in the list (HR, recall with one label)."""
    return float(np.mean(rank > 0)) if len(rank) else 0.0


def mean_reciprocal_rank(rank: NDArray[np.int64]) -> float:
    """Mean of 1/rank, 0 for a miss (MRR)."""
    return float(np.mean(np.where(rank > 0, 1 / np.maximum(rank, 1), 0))) if len(rank) else 0.0


def ndcg(rank: NDArray[np.int64]) -> float:
    """Mean of 1/log2(rank + 1), 0 for a miss: NDCG with a single relevant item."""
    gain = np.where(rank > 0, 1 / np.log2(np.maximum(rank, 1) + 1), 0)
    return float(np.mean(gain)) if len(rank) else 0.0


def coverage(lists: NDArray[np.int32], n_items: int) -> float:
    """Share of all items that appear in at least one list."""
    shown = np.unique(lists)
    return float(np.count_nonzero(shown >= 0) / n_items) if n_items else 0.0


def gains_at(hits: NDArray[np.bool_], relevant: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Hit, reciprocal rank of the first hit and NDCG of lists with several right items, each at
    `k`: (lists, 3). `hits` (lists, length) says which places are right, `relevant` (lists,) how
    many right items there are, at least 1."""
    top = hits[:, :k]
    found = top.any(axis=1)
    reciprocal = np.where(found, 1 / (top.argmax(axis=1) + 1), 0)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(relevant, k) - 1]
    gain = (top * discount[: top.shape[1]]).sum(axis=1) / ideal
    return np.stack([found.astype(np.float64), reciprocal, gain], axis=1)
