"""Google Analytics 4 names of e-commerce events, and what they are called here.

The events route and `onhand ingest` take the names as `type`, and whole events as the Measurement
Protocol has them: `{"name": ..., "params": {"items": [...]}}`, one record an item.
"""

from collections.abc import Container, Mapping
from typing import Any, Final

from onhand.contracts.errors import Fault

__all__ = ["EVENT_NAMES", "is_ga4", "to_events"]

EVENT_NAMES: Final = {
    "view_item": "view",
    "select_item": "click",
    "select_promotion": "click",
    "view_item_list": "impression",
    "view_promotion": "impression",
    "view_search_results": "search",
    "add_to_cart": "cart_add",
    "remove_from_cart": "cart_remove",
}
"""By GA4 name. `purchase` and `search` are the same here; every other name stays as it is."""


def is_ga4(value: Mapping[str, Any]) -> bool:
    """Whether an object is an event as the Measurement Protocol has it."""
    return "type" not in value and isinstance(value.get("name"), str) and "params" in value


def to_events(value: Mapping[str, Any], own: Container[str] = ()) -> list[dict[str, Any]] | Fault:
    """Turn a GA4 event into ours, one for each of its items; unknown parameters are left out, but
    for events in `own`, which have a contract that knows them.

    `user_id` is our user, `client_id` our session unless `params` has a `session_id`;
    `timestamp_micros` and `event_id` stand beside them or in `params`.
    """
    params = value["params"]
    if not isinstance(params, dict):
        params = {}
    common: dict[str, Any] = {"type": value["name"]}
    if value["name"] in own:
        common = {name: each for name, each in params.items() if name != "items"} | common
    sent = {**value, **params} if params else value
    if not _NAMES.isdisjoint(sent):
        for theirs, ours in _FIELDS:
            found = sent.get(theirs)
            if found is not None:
                common[ours] = str(found) if ours == "session" else found
    micros = sent.get("timestamp_micros")
    if isinstance(micros, int):
        common["time"] = micros // 1000
    items = params.get("items")
    if not isinstance(items, list) or not items:
        return [common]
    if len(items) > _MOST_ITEMS:
        return Fault("length", f"A GA4 event has at most {_MOST_ITEMS} items.", "params.items")
    return [_about(common, place, item) for place, item in enumerate(items)]


def _about(common: dict[str, Any], place: int, item: Any) -> dict[str, Any]:
    event = dict(common)
    if not isinstance(item, dict):
        return event | {"item": item}
    about: dict[str, Any] = item
    for theirs, found in about.items():
        if found is not None and theirs in _ITEM_FIELDS:
            event[_ITEM_FIELDS[theirs]] = found
    if "id" in common and place:
        event["id"] = f"{common['id']}:{place}"
    return event


_MOST_ITEMS: Final = 200
"""As in GA4 itself."""
_FIELDS: Final = (
    ("user_id", "user"),
    ("client_id", "session"),
    ("session_id", "session"),
    ("event_id", "id"),
    ("search_term", "query"),
    ("currency", "currency"),
    ("value", "value"),
)
"""Theirs and ours; of two with one name the later counts."""
_NAMES: Final = frozenset(theirs for theirs, _ in _FIELDS)
_ITEM_FIELDS: Final = {
    "item_id": "item",
    "quantity": "quantity",
    "index": "position",
    "price": "value",
}
