"""The app: what a shop declares about itself in Python.

    import onhand
    from onhand.features.declare import count

    shop = onhand.App(zone="Europe/London")
    shop.feature(count("click", by="item", window="5m"))

`onhand serve shop.py` loads such a file. The ready-made features are there unless `ready=False`.
"""

from collections.abc import Iterable, Mapping

from onhand.features.declare import Feature
from onhand.features.ready import READY
from onhand.features.set import FeatureSet

__all__ = ["App"]


class App:
    """Declarations of one shop. `zone` is its time zone, `zones` those of visitors' countries."""

    def __init__(
        self, *, zone: str = "UTC", zones: Mapping[str, str] | None = None, ready: bool = True
    ) -> None:
        self._zone = zone
        self._zones = zones
        self._features: dict[str, Feature] = {}
        self._set: FeatureSet | None = None
        self._register(READY if ready else ())

    def feature(self, feature: Feature) -> Feature:
        """Declare a feature and return it. Raises `ValueError` where its name is taken."""
        self._register((feature,))
        return feature

    @property
    def features(self) -> FeatureSet:
        """All declared features. Raises `ValueError` for a zone that is none."""
        if self._set is None:
            self._set = FeatureSet(self._features.values(), self._zone, self._zones)
        return self._set

    def _register(self, features: Iterable[Feature]) -> None:
        for feature in features:
            if self._features.get(feature.name, feature) != feature:
                raise ValueError(f"a feature {feature.name!r} is there; give this one a `name`")
            self._features[feature.name] = feature
        self._set = None
