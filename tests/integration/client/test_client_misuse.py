"""What a program may do wrong with both clients: errors of ours, at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from easyq import AsyncClient, Client, errors
from easyq.spec import job_spec
from tests.fakes.public_farm import FakeFarm, fake_farm

Call = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture(scope="module")
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        yield made


async def _result(given: Any) -> Any:
    """What a call of either client gives, with all that it yields."""
    if isinstance(given, Awaitable):
        return await given
    if hasattr(given, "__aiter__"):
        return [one async for one in given]
    return list(given) if hasattr(given, "__next__") else given


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, farm: FakeFarm) -> Call:
    """Does something with a client; `closed` ones come from `lambda client: …` after the end of their `with`."""

    def sync(act: Callable[[Any], Any], *, closed: bool = False) -> Any:
        async def run() -> Any:
            with Client(farm.address, repeats=False) as client:
                if not closed:
                    return await _result(act(client))
            return await _result(act(client))

        return asyncio.run(run())

    def by_asyncio(act: Callable[[Any], Any], *, closed: bool = False) -> Any:
        async def run() -> Any:
            async with AsyncClient(farm.address, repeats=False) as client:
                if not closed:
                    return await _result(act(client))
            return await _result(act(client))

        return asyncio.run(run())

    return sync if request.param == "sync" else by_asyncio


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("", "is empty"),
        (":", "write HOST:PORT"),
        (":10001", "write HOST:PORT"),
        ("h:99999", "write HOST:PORT"),
        ("http://x", "has no scheme; write 'x'"),
        ("http://u:p@x", "…@x"),
        (5, "must be text, not int"),
    ],
)
def test_an_address_that_is_none(kind: Any, server: Any, words: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=words) as error:
        kind(server)
    assert "u:p" not in str(error.value)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, used in (
        ("h", "h:10001"),
        ("h:1", "h:1"),
        ("[::1]", "[::1]:10001"),
        ("unix:/s", "unix:/s"),
        ("dns:///h:1", "dns:///h:1"),
    ):
        with Client(given) as client:
            assert client.server == used
    # A variable that is empty is one that is not set.
    monkeypatch.setenv("EASYQ_SERVER", "")
    with Client() as client:
        assert client.server == "127.0.0.1:10001"
    monkeypatch.setenv("EASYQ_SERVER", "http://x")
    with pytest.raises(errors.InvalidArgument):
        Client()


@pytest.mark.parametrize(
    ("field", "act"),
    [
        ("spec", lambda client: client.submit(5)),
        ("spec", lambda client: client.submit_many([5])),
        ("spec", lambda client: client.run("busybox:1")),
        ("spec", lambda client: client.put("j", 5, task="t")),
        ("task_id", lambda client: client.submit(job_spec("i"), task=5)),
        ("job_id", lambda client: client.get(5)),
        ("job_id", lambda client: client.wait(5)),
        ("job_id", lambda client: client.logs(5)),
        ("job_id", lambda client: client.get("\ud800")),
    ],
)
def test_an_argument_of_another_type(call: Any, field: str, act: Callable[[Any], Any]) -> None:
    with pytest.raises(errors.InvalidArgument) as error:
        call(act)
    assert [one.field for one in error.value.fields] == [field]
    # What is wanted, and not what protobuf does with it inside.
    assert "bad argument" not in str(error.value)
    assert "Parameter" not in str(error.value)


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.get("j"),
        lambda client: client.wait("j"),
        lambda client: client.logs("j", follow=True),
        lambda client: client.submit_many([job_spec("i")]),
        lambda client: client.run(job_spec("i")),
        lambda client: client.agents(),
    ],
)
def test_a_client_that_was_closed(call: Any, act: Callable[[Any], Any]) -> None:
    with pytest.raises(errors.ClientClosed, match="the client is closed"):
        call(act, closed=True)
