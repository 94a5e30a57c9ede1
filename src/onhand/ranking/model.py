"""A model: which features it reads, and how it scores candidates by them.

Whatever trained it, a model is arrays and names: trees of LightGBM or XGBoost become the same
compiled ensemble, a linear model is its weights. `artefact` keeps it on disk.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from onhand.contracts.errors import Invalid

__all__ = ["LABEL", "Linear", "Model", "Scorer", "parse_label"]

LABEL: Final = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})@([1-9][0-9]{0,8})")
"""How a model is called: `ranker@3`."""


class Scorer(Protocol):
    """What scores float32 (rows, features)."""

    @property
    def n_features(self) -> int:
        """Number of columns that it reads."""
        ...

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 (rows,)."""
        ...


@dataclass(frozen=True)
class Linear:
    """A weighted sum: `weights` float32 (features,)."""

    weights: NDArray[np.float32]

    @property
    def n_features(self) -> int:
        """Number of weights."""
        return len(self.weights)

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 (rows,) of float32 (rows, features)."""
        return features @ self.weights


@dataclass(frozen=True)
class Model:
    """A scorer with the names of its features, in the order of its columns."""

    name: str
    version: int
    features: tuple[str, ...]
    definitions: str
    """Hash of what the features mean: other definitions under the same names do not fit."""
    scorer: Scorer

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 (rows,), higher is better, of float32 (rows, features), all finite."""
        return self.scorer.score(features)


def parse_label(label: str) -> tuple[str, int]:
    """Return name and version of a label. Raises `Invalid`."""
    match = LABEL.fullmatch(label)
    if match is None:
        raise Invalid(
            "model",
            f"{label[:128]!r} names no model; it is a name of small letters, digits, _ and -, "
            "and a version: ranker@3.",
        )
    return match[1], int(match[2])
