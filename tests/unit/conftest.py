"""Coverage counts what the tests reach that do the same each time."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves tests on random values out: what only they reach is covered by chance. So they take half the time."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("no_cover")
