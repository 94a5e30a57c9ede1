"""Item vectors from co-occurrence: items that are seen near the same items point the same way.

The vectors are the leading eigenvectors of a log co-occurrence matrix corrected for popularity
(Levy and Goldberg, "Neural word embedding as implicit matrix factorization", NIPS 2014), found
by randomized subspace iteration (Halko, Martinsson, Tropp, SIAM Review 2011).
"""

import numpy as np
from numpy.typing import NDArray

from onhand.kernel import kernel
from onhand.retrieval.sessions.transitions import WEIGHTS, Transitions

__all__ = ["item_vectors"]

_TOGETHER = WEIGHTS.index("together")


def item_vectors(
    transitions: Transitions,
    clicks_of: NDArray[np.int64],
    *,
    n_dimensions: int = 48,
    n_iterations: int = 3,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Vectors of length 1 for all items, float32 (items, dimensions).

    An item without company has the zero vector. `clicks_of` int64 (items,) are the counts the
    cosines in `transitions` were made with.
    """
    n_items = len(clicks_of)
    n_dimensions = min(n_dimensions, n_items)
    strength = _strengths(transitions, clicks_of)
    width = min(n_items, n_dimensions + 10)
    basis = np.random.default_rng(seed).standard_normal((n_items, width)).astype(np.float32)
    for _ in range(n_iterations):
        basis = np.linalg.qr(_product(transitions.start, transitions.item, strength, basis))[0]
    small = basis.T @ _product(transitions.start, transitions.item, strength, basis)
    values, rotation = np.linalg.eigh((small + small.T) / 2)
    top = np.argsort(-np.abs(values), kind="stable")[:n_dimensions]
    vectors = (basis @ rotation[:, top]) * np.sqrt(np.abs(values[top]))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norms > 1e-6, vectors / np.maximum(norms, 1e-6), 0).astype(np.float32)


def _strengths(transitions: Transitions, clicks_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log co-occurrence over what popularity alone would give, float32 (entries,)."""
    row = np.repeat(np.arange(len(clicks_of)), np.diff(transitions.start))
    size = np.sqrt(clicks_of + 2.0)
    both = transitions.weight[:, _TOGETHER] * size[row] * size[transitions.item]
    met = np.bincount(row, both, minlength=len(clicks_of)) + 1.0
    total = met.sum()
    expected = met[row] * met[transitions.item] ** 0.75 * total**0.25
    return np.log1p(both * total / expected).astype(np.float32)


@kernel
def _product(
    start: NDArray[np.int64],
    item: NDArray[np.int32],
    strength: NDArray[np.float32],
    dense: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Sparse times dense: float32 (items, width)."""
    out = np.zeros_like(dense)
    for row in range(len(start) - 1):
        for k in range(start[row], start[row + 1]):
            weight = strength[k]
            other = item[k]
            for column in range(dense.shape[1]):
                out[row, column] += weight * dense[other, column]
    return out
