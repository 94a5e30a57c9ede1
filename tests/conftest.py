from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("onhand", deadline=None)  # the first call of a kernel loads or compiles
settings.load_profile("onhand")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests of one name: run in parallel, all but one of them would be left out."""
    names = Counter(item.nodeid for item in items)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise pytest.UsageError(f"There are several tests {', '.join(twice[:5])}.")
