"""Onhand: real-time personalization, self-hosted. One ordered log, one fold, one snapshot.

```python
from onhand import Engine

with_shop = Engine.open("data")
with_shop.ingest([{"kind": "event", "type": "view", "session": "s1", "item": "85123A"}])
page = with_shop.recommend("home", session="s1")
```
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onhand.app import App
    from onhand.contracts.answers import IngestReport, Recommendation, RecommendedItem
    from onhand.contracts.contract import Field
    from onhand.contracts.errors import Invalid, OnhandError, Unavailable, Unknown
    from onhand.contracts.records import (
        Context,
        Control,
        Event,
        Fulfilment,
        Item,
        ItemDelete,
        ItemPatch,
        Signal,
    )
    from onhand.engine import Engine

__all__ = [
    "Engine",
    "App",
    "Field",
    "Event",
    "Context",
    "Item",
    "ItemPatch",
    "ItemDelete",
    "Signal",
    "Fulfilment",
    "Control",
    "IngestReport",
    "Recommendation",
    "RecommendedItem",
    "OnhandError",
    "Invalid",
    "Unknown",
    "Unavailable",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "Engine": "onhand.engine",
    "App": "onhand.app",
    "Field": "onhand.contracts.contract",
    "Event": "onhand.contracts.records",
    "Context": "onhand.contracts.records",
    "Item": "onhand.contracts.records",
    "ItemPatch": "onhand.contracts.records",
    "ItemDelete": "onhand.contracts.records",
    "Signal": "onhand.contracts.records",
    "Fulfilment": "onhand.contracts.records",
    "Control": "onhand.contracts.records",
    "IngestReport": "onhand.contracts.answers",
    "Recommendation": "onhand.contracts.answers",
    "RecommendedItem": "onhand.contracts.answers",
    "OnhandError": "onhand.contracts.errors",
    "Invalid": "onhand.contracts.errors",
    "Unknown": "onhand.contracts.errors",
    "Unavailable": "onhand.contracts.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line starts without the engine."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'onhand' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
