from collections.abc import AsyncIterator

import pytest

from tests.fakes.runner_rig import Rig


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """An agent's host; `start` or `ready` starts the agent."""
    made = Rig(monkeypatch)
    yield made
    await made.close()
