"""What the runner relies on in an engine, on the fake and on a real dockerd."""

import asyncio
from dataclasses import replace

import pytest

from easyq_runner.domain.lifetime import is_same, trace_of
from easyq_runner.domain.outcome import Snapshot, Status
from easyq_runner.errors import (
    EngineUnreachable,
    ImageRefused,
    InvalidRequest,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
    NotNow,
)
from easyq_runner.ports import EngineEvent
from tests.contract.runner.conftest import EngineUnderTest
from tests.fakes.runner_engine import FakeEngine
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(90)


async def exited(under_test: EngineUnderTest, container: str) -> Snapshot:
    async def ended() -> Snapshot | None:
        found = await under_test.engine.inspect(container)
        return found if found.status is Status.EXITED else None

    found = await eventually(ended, 20)
    assert found is not None
    return found


async def output(under_test: EngineUnderTest, container: str, *, follow: bool = False) -> tuple[bytes, bytes]:
    pieces = [piece async for piece in under_test.engine.logs(container, follow=follow)]
    return b"".join(piece.stdout for piece in pieces), b"".join(piece.stderr for piece in pieces)


async def test_a_container_from_create_to_removal(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    container = await engine.create("one", under_test.body("echo hi; echo oops >&2; exit 3"), "")
    created = await engine.inspect(container)
    assert created.never_ran
    assert created.labels["easyq.agent"] == "a"
    assert (await engine.inspect("one")).container_id == container
    await engine.start(container)
    ended = await exited(under_test, container)
    assert (ended.exit_code, ended.oom_killed, ended.never_ran) == (3, False, False)
    assert ended.image_id.startswith("sha256:")
    assert ended.started_at is not None
    assert ended.finished_at is not None
    assert ended.ran_for is not None
    assert await output(under_test, container) == (b"hi\n", b"oops\n")
    await engine.remove(container, force=False)
    for call in (
        engine.inspect(container),
        engine.start(container),
        engine.kill(container, "SIGKILL"),
        engine.remove(container, force=True),
        output(under_test, container),
    ):
        with pytest.raises(NoSuchContainer):
            await call


async def test_a_name_is_given_out_once(under_test: EngineUnderTest) -> None:
    await under_test.engine.create("twice", under_test.body("exit 0"), "")
    with pytest.raises(NameTaken):
        await under_test.engine.create("twice", under_test.body("exit 0"), "")


async def test_what_cannot_be_created_or_started(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    with pytest.raises(NoSuchImage):
        await engine.create("una", under_test.body("exit 0", Image="nosuch:1"), "")
    body = under_test.body("exit 0")
    body["HostConfig"]["Memory"] = 1000
    with pytest.raises(InvalidRequest):
        await engine.create("unb", body, "")
    container = await engine.create("unc", under_test.body("", Cmd=["/no/such"]), "")
    with pytest.raises(InvalidRequest, match="/no/such"):
        await engine.start(container)
    refused = await engine.inspect(container)
    assert refused.never_ran
    assert refused.exit_code == 127
    # A file that is no program.
    container = await engine.create("und", under_test.body("", Cmd=["/etc/passwd"]), "")
    with pytest.raises(InvalidRequest, match="/etc/passwd"):
        await engine.start(container)
    assert (await engine.inspect(container)).exit_code == 126


async def test_signals(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    # A shell runs a trap when the program has ended for which it waits.
    script = "; ".join(["trap 'exit 9' TERM", "echo set", *["sleep 0.2"] * 150])
    container = await engine.create("traps", under_test.body(script), "")
    with pytest.raises(NotNow):
        await engine.kill(container, "SIGTERM")
    await engine.start(container)
    await eventually(lambda: output_has(under_test, container, b"set\n"))
    with pytest.raises(NotNow):
        await engine.remove(container, force=False)
    await engine.kill(container, "SIGTERM")
    assert (await exited(under_test, container)).exit_code == 9
    ignoring = await engine.create("ignores", under_test.body("sleep 60"), "")
    await engine.start(ignoring)
    await engine.kill(ignoring, "SIGKILL")
    assert (await exited(under_test, ignoring)).exit_code == 137


async def output_has(under_test: EngineUnderTest, container: str, expected: bytes) -> bool:
    return (await output(under_test, container))[0] == expected


async def test_force_removes_what_runs(under_test: EngineUnderTest) -> None:
    container = await under_test.engine.create("runs", under_test.body("sleep 60"), "")
    await under_test.engine.start(container)
    await under_test.engine.remove(container, force=True)
    with pytest.raises(NoSuchContainer):
        await under_test.engine.inspect(container)


async def test_following_goes_on_to_the_end(under_test: EngineUnderTest) -> None:
    container = await under_test.engine.create("follow", under_test.body("echo 1; sleep 0.5; echo 2; exit 0"), "")
    await under_test.engine.start(container)
    assert await output(under_test, container, follow=True) == (b"1\n2\n", b"")


async def test_attached_before_the_start(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    container = await engine.create("attached", under_test.body("echo 1; echo x >&2; sleep 0.3; echo 2; exit 0"), "")
    async with engine.attach(container) as pieces:
        await engine.start(container)
        read = [piece async for piece in pieces]
    assert b"".join(piece.stdout for piece in read) == b"1\n2\n"
    assert b"".join(piece.stderr for piece in read) == b"x\n"
    with pytest.raises(NoSuchContainer):
        async with engine.attach("nosuch"):
            raise AssertionError("there is nothing to be attached to")


async def test_last_output(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    container = await engine.create("last", under_test.body("echo 1; echo 2; echo 3; sleep 0.2; echo x >&2"), "")
    await engine.start(container)
    await exited(under_test, container)
    last = await engine.last_output(container, 2)
    assert (last.stdout, last.stderr, last.whole) == (b"3\n", b"x\n", False)
    last = await engine.last_output(container, 5)
    assert (last.stdout, last.stderr, last.whole) == (b"1\n2\n3\n", b"x\n", True)


async def test_own_containers_are_told_from_others(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    mine = await engine.create("mine", under_test.body("exit 0"), "")
    await engine.create("theirs", under_test.body("exit 0", Labels={"easyq.farm": "f", "easyq.agent": "b"}), "")
    await engine.create("nobodys", under_test.body("exit 0", Labels={}), "")
    (found,) = await engine.list_own("f", "a")
    assert (found.container_id, found.status, found.labels["easyq.farm"]) == (mine, Status.CREATED, "f")


async def test_containers_of_a_farm_whosever_they_are(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    mine = await engine.create("fm", under_test.body("exit 0"), "")
    theirs = await engine.create("ft", under_test.body("exit 0", Labels={"easyq.farm": "f", "easyq.agent": "b"}), "")
    await engine.create("fo", under_test.body("exit 0", Labels={"easyq.farm": "g", "easyq.agent": "a"}), "")
    assert {one.container_id for one in await engine.list_farm("f")} == {mine, theirs}


async def test_what_an_engine_says_of_its_machine(under_test: EngineUnderTest) -> None:
    info = await under_test.engine.info()
    assert info.cpus > 0
    assert info.memory > 1 << 20
    assert info.root.startswith("/")


async def test_images_in_use_are_told_and_not_removed(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    image = await engine.image(under_test.image)
    assert image is not None
    assert image.image_id in await engine.image_ids()
    assert image.image_id not in await engine.images_in_use()
    assert (await engine.image(image.image_id)) == image
    container = await engine.create("uses", under_test.body("exit 0"), "")
    assert image.image_id in await engine.images_in_use()
    with pytest.raises(NotNow):
        await engine.remove_image(under_test.image)
    with pytest.raises(NoSuchImage):
        await engine.remove_image("nosuch:1")
    await engine.remove(container, force=False)
    assert image.image_id not in await engine.images_in_use()


async def test_events_tell_of_ends_and_removals(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    seen: list[EngineEvent] = []
    async with engine.events() as events:

        async def read() -> None:
            async for event in events:
                seen.append(event)  # noqa: PERF401 - each as it comes

        reading = asyncio.create_task(read())
        container = await engine.create("noisy", under_test.body("exit 0"), "")
        await engine.start(container)
        await exited(under_test, container)
        await engine.remove(container, force=False)
        await eventually(lambda: [one.action for one in seen if one.container_id == container][-1:] == ["destroy"])
        reading.cancel()
    actions = [one.action for one in seen if one.container_id == container]
    assert [one for one in actions if one in {"create", "start", "die", "destroy"}] == [
        "create",
        "start",
        "die",
        "destroy",
    ]
    assert max(one.time for one in seen) in (await engine.evidence()).events


async def test_images(under_test: EngineUnderTest) -> None:
    local = await under_test.engine.image(under_test.image)
    assert local is not None
    assert not local.known_to_registry
    assert await under_test.engine.image("nosuch:1") is None


async def test_one_lifetime_is_told_from_the_next(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    before, first = await engine.info(), await engine.evidence()
    container = await engine.create("marks", under_test.body("exit 0"), "")
    second = await engine.evidence()
    assert is_same(trace_of(first), second)
    await under_test.restart()
    third = await engine.evidence()
    assert not is_same(trace_of(second), third)
    # Also without a look at the daemon's process.
    assert not is_same(trace_of(replace(second, process="")), replace(third, process=""))
    assert (await engine.info()).daemon_id == before.daemon_id
    assert (await engine.inspect(container)).never_ran


async def test_engine_that_is_away(under_test: EngineUnderTest) -> None:
    engine = under_test.engine
    async with engine.events() as events:
        if under_test.host is not None:
            await asyncio.to_thread(under_test.host.kill)
        else:
            assert isinstance(engine, FakeEngine)
            await engine.go_down()
        with pytest.raises(EngineUnreachable) as broken:
            await asyncio.wait_for(anext(aiter(events)), 10)
        # In words, and not in those of HTTP's framing.
        assert "Encoding" not in str(broken.value)
    for call in (engine.ping(), engine.info(), engine.inspect("x"), engine.start("x"), engine.image("x")):
        with pytest.raises(EngineUnreachable):
            await call


async def test_registry_without_the_image(under_test: EngineUnderTest) -> None:
    if under_test.host is None:
        with pytest.raises(ImageRefused):
            await under_test.engine.pull("nosuch:1", "")
