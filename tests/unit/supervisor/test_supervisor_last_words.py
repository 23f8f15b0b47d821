"""What a process says last is heard, however busy the machine is; a pipe that nobody closes is not waited for."""

import asyncio
import io
import json

import pytest

from easyq_supervisor.adapters import child
from easyq_supervisor.adapters.child import Child
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.domain.plan import ProcessSpec


class Heard:
    """A child that is not started, and what the console got of it."""

    def __init__(self) -> None:
        self._target = io.BytesIO()
        spec = ProcessSpec(name="store", kind="store", argv=("/bin/true",), env={})
        self.child = Child(spec, Console(self._target, form="json"))
        self.pipe = asyncio.StreamReader()

    def passing_on(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.child._pass_on(self.pipe))

    @property
    def lines(self) -> list[str]:
        return [json.loads(line)["text"] for line in self._target.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_LAST_WORDS", 0.05)


async def test_who_goes_on_talking_is_heard_out() -> None:
    heard = Heard()

    async def talk() -> None:
        for number in range(8):
            heard.pipe.feed_data(f"{number}\n".encode())
            await asyncio.sleep(0.02)
        heard.pipe.feed_eof()

    talking = asyncio.create_task(talk())
    await heard.child._hear_out(heard.passing_on())
    assert heard.lines == [str(number) for number in range(8)]
    await talking


async def test_a_pipe_that_stays_open_is_left_with_all_that_came() -> None:
    heard = Heard()
    output = heard.passing_on()
    heard.pipe.feed_data(b"one\ntwo, without an end")
    await heard.child._hear_out(output)
    assert output.cancelled()
    assert heard.lines == ["one", "two, without an end"]


async def test_who_never_stops_talking_is_left_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_MOST_LAST_WORDS", 0.15)
    heard = Heard()

    async def talk() -> None:
        while True:
            heard.pipe.feed_data(b"on and on\n")
            await asyncio.sleep(0.02)

    talking, output = asyncio.create_task(talk()), heard.passing_on()
    await heard.child._hear_out(output)
    assert output.cancelled()
    talking.cancel()
