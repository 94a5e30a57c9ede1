"""Drift: how each feature was distributed in a training set, and how far later values are from
that (population stability index)."""

from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["Profile", "profile_of", "stability"]

BINS = 10
_LEAST = 1e-4


class Profile(Struct, frozen=True):
    """Of a feature vector's version: for each feature the inner edges of its bins, and the share
    of the training set in each."""

    version: str
    edges: dict[str, list[float]]
    shares: dict[str, list[float]]


def profile_of(version: str, columns: Iterable[tuple[str, NDArray[np.float32]]]) -> Profile:
    """Return the profile of a training set, by quantiles; `columns` are read one by one."""
    edges: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}
    for name, values in columns:
        inner = np.zeros(0)
        if len(values):
            inner = np.unique(np.quantile(values.astype(np.float64), np.arange(1, BINS) / BINS))
        edges[name] = inner.tolist()
        shares[name] = _shares(values, inner).tolist()
    return Profile(version, edges, shares)


def stability(profile: Profile, values: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    """Return the population stability index of each feature: the sum over bins of
    (now - then) x ln(now / then). Below 0.1 is stable; above 0.25, look into it."""
    return {
        name: _index(np.array(profile.shares[name]), _shares(now, np.array(profile.edges[name])))
        for name, now in values.items()
        if name in profile.edges and len(now)
    }


def _shares(values: NDArray[np.float32], inner: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.searchsorted(inner, values, side="right")
    counts = np.bincount(places, minlength=len(inner) + 1)
    return counts / max(len(values), 1)


def _index(then: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    then, now = np.maximum(then, _LEAST), np.maximum(now, _LEAST)
    return float(((now - then) * np.log(now / then)).sum())
