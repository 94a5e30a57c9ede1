"""Which model is active, found in the store and checked before anything is ranked by it."""

import logging
from collections.abc import Mapping
from typing import Any

from onhand.contracts.errors import OnhandError, Refused, Unknown
from onhand.contracts.models import DEFAULT, Activation, active
from onhand.decision.prepared import Ranker
from onhand.features.set import FeatureSet
from onhand.ranking.artefact import Artefact, ModelStore

__all__ = ["Models"]

_logger = logging.getLogger(__name__)


class Models:
    """The models of one data folder for one feature set; without a store only `DEFAULT`."""

    def __init__(self, store: ModelStore | None, features: FeatureSet) -> None:
        self._store = store
        self._features = features
        self._loaded: dict[Activation, Ranker] = {}
        self._named: Activation | None = None
        self.ranker: Ranker | None = None
        """The active model; None for `DEFAULT`."""

    @property
    def active(self) -> str:
        """What decisions are made by now."""
        return DEFAULT if self.ranker is None else self.ranker.label

    def labels(self) -> list[str]:
        """Return what models there are."""
        return [DEFAULT, *(self._store.labels() if self._store is not None else [])]

    def load(self, label: str) -> Artefact:
        """Return a model with its card. Raises `Unknown`, `Refused`."""
        if self._store is None:
            raise Unknown("unknown_model", f"There is no model {label[:128]!r}, only {DEFAULT}.")
        return self._store.load(label)

    def find(self, label: str) -> Ranker | None:
        """Return a model ready to rank, None for `DEFAULT`. Raises `Unknown`, `Refused`."""
        return None if label == DEFAULT else Ranker(self.load(label).model, self._features)

    def check(self, label: str) -> Activation | None:
        """Return what makes a model active, None for `DEFAULT`.

        Raises `Unknown`, or `Refused` where its files are damaged, its features are not those of
        this app, or it ranked the last day before it was made no better than by popularity.
        """
        if label == DEFAULT:
            return None
        artefact = self.load(label)
        ranker = Ranker(artefact.model, self._features)
        own, popular = (artefact.card.quality.get(name) for name in ("model", "popular"))
        if own is None or popular is None or own.ndcg <= popular.ndcg:
            told = f"{own.ndcg:.4f} against {popular.ndcg:.4f}" if own and popular else "not said"
            raise Refused(
                "model_refused",
                f"Model {label} cannot be used: it was no better than popular items on the last "
                f"day of its data (NDCG@10 {told}).",
            )
        activation = Activation(label, artefact.sha256)
        self._loaded = {activation: ranker}
        return activation

    def follow(self, controls: Mapping[str, Any]) -> None:
        """Take the model that the controls name. One that cannot be used any more is logged, and
        `DEFAULT` stands in for it."""
        named = active(controls)
        if named == self._named:
            return
        self._named = named
        try:
            self.ranker = None if named is None else self._ready(named)
        except OnhandError as error:
            self.ranker = None
            _logger.error("%s Decisions are made by %s.", error.message, DEFAULT)

    def _ready(self, named: Activation) -> Ranker:
        ranker = self._loaded.get(named)
        if ranker is None:
            artefact = self.load(named.model)
            if artefact.sha256 != named.sha256:
                raise Refused(
                    "model_refused", f"Model {named.model} is not the one that was activated."
                )
            ranker = Ranker(artefact.model, self._features)
        return ranker
