"""The app: what a shop declares about itself in Python.

    import onhand
    from onhand.features.declare import count

    shop = onhand.App(zone="Europe/London")
    shop.feature(count("click", by="item", window="5m"))
    shop.event("wishlist_add", {"list": onhand.Field("string", required=True)})
    shop.slot("home", static=["gift-card", "mug"])

`onhand serve shop.py` loads such a file. The ready-made features are there unless `ready=False`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from onhand.contracts.contract import Contract, Draft, Field, declare
from onhand.contracts.errors import Invalid
from onhand.contracts.requests import SLOTS, Slot
from onhand.decision.ladder import SlotRule
from onhand.features.declare import Feature
from onhand.features.ready import READY, in_zone
from onhand.features.set import FeatureSet

__all__ = ["App"]


class App:
    """Declarations of one shop. `zone` is its time zone, `zones` those of visitors' countries.
    Raises `ValueError` for a zone that is none."""

    def __init__(
        self, *, zone: str = "UTC", zones: Mapping[str, str] | None = None, ready: bool = True
    ) -> None:
        self._zone = zone
        self._zones = zones
        self._features: dict[str, Feature] = {}
        self.events: dict[str, Draft] = {}
        """The event types of the shop's own, and what their contracts change of that of events."""
        self.slots: dict[Slot, SlotRule] = {slot: SlotRule(ahead=slot == "home") for slot in SLOTS}
        """What is declared of each slot."""
        self._set: FeatureSet | None = None
        self._register((*READY, *in_zone(zone)) if ready else ())

    def feature(self, feature: Feature) -> Feature:
        """Declare a feature and return it. Raises `ValueError` where its name is taken."""
        self._register((feature,))
        return feature

    def event(
        self,
        name: str,
        fields: Mapping[str, Field | None] = {},
        *,
        compatibility: Literal["backward_transitive", "none"] = "backward_transitive",
        unknown_fields: Literal["ignore", "reject"] = "ignore",
        unknown_item: Literal["accept", "reject"] = "accept",
        currency: str | None = None,
    ) -> Contract:
        """Declare an event type, and return version 1 of its contract.

        It has the fields of every event, changed and added to by `fields`; None takes one away.
        What is added is kept in the event's `attributes`. The next versions are what the app
        declares later, checked against all before by `compatibility` when the engine loads.
        Raises `ValueError` where the engine cannot keep it, or the type is declared already.
        """
        if name in self.events:
            raise ValueError(f"event type {name!r} is declared twice")
        content = {
            "fields": {key: msgspec.to_builtins(field) for key, field in fields.items()},
            "compatibility": compatibility,
            "unknown_fields": unknown_fields,
            "unknown_item": unknown_item,
            "currency": currency,
        }
        try:
            draft = msgspec.convert(content, Draft)
            contract = declare(name, draft)
        except (msgspec.ValidationError, Invalid) as error:
            raise ValueError(f"event type {name!r}: {error}") from None
        self.events[name] = draft
        return contract

    def slot(
        self,
        name: Slot,
        *,
        deadline_ms: float = 50.0,
        static: Sequence[str] = (),
        ahead: bool | None = None,
        foresight: bool = True,
    ) -> None:
        """Declare how soon a slot's page must be answered, the item ids to show, best first, when
        nothing else can be, whether the active model ranks it `ahead`: for each visitor at their
        first event (as it does `home`), or for those whose page was asked for, and whether items
        that will probably be gone before a click are demoted or held back (`foresight`). Raises
        `ValueError`."""
        if name not in SLOTS:
            raise ValueError(f"there is no slot {name!r}; there are {', '.join(SLOTS)}")
        if not 1 <= deadline_ms <= 10_000:
            raise ValueError(f"`deadline_ms` is {deadline_ms}; give 1 to 10,000")
        if ahead is None:
            ahead = self.slots[name].ahead
        self.slots[name] = SlotRule(deadline_ms, tuple(static), ahead, foresight)

    @property
    def features(self) -> FeatureSet:
        """All declared features. Raises `ValueError` for a visitors' zone that is none."""
        if self._set is None:
            self._set = FeatureSet(self._features.values(), self._zone, self._zones)
        return self._set

    def _register(self, features: Iterable[Feature]) -> None:
        for feature in features:
            if self._features.get(feature.name, feature) != feature:
                raise ValueError(f"a feature {feature.name!r} is there; give this one a `name`")
            self._features[feature.name] = feature
        self._set = None
