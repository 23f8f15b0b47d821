"""A store over the fake database, once with transactions and once without."""

import pytest

from tests.fakes.store import FakePersistence
from tests.support.store_world import World


@pytest.fixture(params=["atomic", "in-steps"])
def world(request: pytest.FixtureRequest) -> World:
    """One store process and its database."""
    return World(store=FakePersistence(atomic=request.param == "atomic"))
