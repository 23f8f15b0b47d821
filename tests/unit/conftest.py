"""Coverage counts what the tests reach that do the same each time. Each test finds its process as if it were new."""

import signal
import threading
from collections.abc import Iterator

import pytest

from easyq_chassis import error_reports, faults, loops, outages

# Whatever `easyq_chassis.process` listens to.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves tests on random values out: what only they reach is covered by chance. So they take half the time."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    """What is kept for a whole process is each test's own: which files share one, and in which order, is chance."""
    for name, neighbour in outages._neighbours.items():
        # Modules hold some of them from their import on.
        vars(neighbour).update(vars(outages.Neighbour(name)))
    loops._failing.clear()
    faults._passes.clear()
    error_reports.use(None)
    handlers, hook = [signal.getsignal(one) for one in _SIGNALS], threading.excepthook
    yield
    threading.excepthook = hook
    for one, handler in zip(_SIGNALS, handlers, strict=True):
        if signal.getsignal(one) is not handler:
            signal.signal(one, handler)
