"""The runner's adapters, as far as they go without another process."""

import asyncio
import base64
import json
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from easyq_chassis.errors import FailedPrecondition
from easyq_runner.adapters import docker_engine
from easyq_runner.adapters.data_folder import DataFolder
from easyq_runner.adapters.docker_engine import DockerEngine, raise_pull_failure, snapshot_of
from easyq_runner.adapters.docker_http import DockerHttp
from easyq_runner.adapters.docker_peer import describe, process_behind
from easyq_runner.adapters.image_file import FileImageNotes
from easyq_runner.adapters.journal_codec import decode
from easyq_runner.adapters.journal_file import FileJournal, JournalDamaged
from easyq_runner.adapters.lease_file import FileLeaseNotes
from easyq_runner.adapters.local_disks import LocalDisks
from easyq_runner.adapters.registry_auth import RegistryCredentials
from easyq_runner.domain.identity import Identity
from easyq_runner.domain.images import DOCKER_HUB
from easyq_runner.domain.journal import Forgotten, Settled, StartIntent, fold
from easyq_runner.domain.outcome import Status
from easyq_runner.domain.records import ExecutionKey
from easyq_runner.errors import EngineFailed, EngineSilent, EngineUnreachable, ImageRefused, InvalidRequest, PullFailed
from tests.support.process import make_folder, remove_folder


# --------------------------------------------------------------------------------------------------------- journal
def intent(number: int) -> StartIntent:
    return StartIntent(key=ExecutionKey(f"e{number}", 1), container_id="c", lifetime="l")


async def test_journal_survives_a_torn_last_entry(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal")
    await journal.load()
    await journal.append(intent(1), sync=True)
    await journal.close()
    with (tmp_path / "journal").open("ab") as file:
        file.write(b'{"t":"settled","id":"e1"')
    again = FileJournal(tmp_path / "journal")
    assert list((await again.load()).executions) == [intent(1).key]
    await again.append(intent(2))
    assert len((await again.load()).executions) == 2
    await again.close()


async def test_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"t":"start","id":"e1","epoch":1,"container":"c","lifetime":"l"}\n')
    state = await FileJournal(tmp_path / "journal").load()
    assert state == fold([intent(1)])


async def test_journal_with_a_damaged_entry_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"t":"settled","id":"e1","epoch":1}\n{"t":"\n')
    journal = FileJournal(tmp_path / "journal")
    with pytest.raises(JournalDamaged, match="line 2"):
        await journal.load()


async def test_journal_is_written_anew_when_most_of_it_is_history(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal", compact_after=50)
    await journal.load()
    for number in range(200):
        await journal.append(intent(number))
        if number != 7:
            await journal.append(Forgotten(key=intent(number).key))
    assert len((tmp_path / "journal").read_bytes().splitlines()) <= 60
    assert list((await journal.load()).executions) == [intent(7).key]
    await journal.close()


async def test_journal_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = FileJournal(tmp_path / "journal")
    await journal.load()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("easyq_runner.adapters.journal_file._write_all", full)
    with pytest.raises(OSError, match="No space left"):
        await journal.append(intent(1), sync=True)
    monkeypatch.undo()
    await journal.append(intent(2), sync=True)
    await journal.close()


async def test_half_an_entry_on_a_full_disk_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = FileJournal(tmp_path / "journal")
    await journal.load()
    await journal.append(intent(1), sync=True)
    real = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) - 10])

    monkeypatch.setattr("easyq_runner.adapters.journal_file.os.write", half)
    with pytest.raises(OSError, match="No space left"):
        await journal.append(intent(2), sync=True)
    monkeypatch.undo()
    await journal.append(intent(3), sync=True)
    assert [key.execution_id for key in (await journal.load()).executions] == ["e1", "e3"]
    await journal.close()


async def test_entry_of_a_cancelled_caller_is_written(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal")
    await journal.load()
    task = asyncio.create_task(journal.append(Settled(key=ExecutionKey("e", 1))))
    await asyncio.sleep(0)
    task.cancel()
    await journal.append(intent(1))
    assert len((await journal.load()).executions) == 2
    await journal.close()


def test_unknown_kind_of_entry() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        decode(b'{"t":"later","id":"e","epoch":1}')


def test_lease_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "lease").write_text('{"boot_id": 1}', encoding="ascii")
    assert FileLeaseNotes(tmp_path / "lease").read() is None


# ------------------------------------------------------------------------------------------------------ data folder
def test_data_folder_has_one_user(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path / "data"), DataFolder(tmp_path / "data")
    first.lock(os.getpid())
    with pytest.raises(FailedPrecondition, match=r"process id \d+"):
        second.lock(os.getpid())
    first.unlock()
    second.lock(os.getpid())
    second.unlock()


def test_identity_is_kept(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.read_identity() is None
    folder.write_identity(Identity(agent_id="a", daemon_id="d"))
    assert folder.read_identity() == Identity(agent_id="a", daemon_id="d")
    folder.journal.write_text("old", encoding="ascii")
    folder.set_journal_aside()
    folder.set_journal_aside()
    assert not folder.journal.exists()
    assert (tmp_path / "journal.old").read_text(encoding="ascii") == "old"
    (tmp_path / "agent.json").write_text("[]", encoding="ascii")
    with pytest.raises(FailedPrecondition, match="damaged"):
        folder.read_identity()


# ------------------------------------------------------------------------------------------------------------- disks
async def test_disks_of_this_machine(tmp_path: Path) -> None:
    here = LocalDisks(tmp_path, engine_is_here=True)
    assert [disk.folder for disk in await here.free("/")] == [str(tmp_path), "/"]
    assert all(disk.free > 0 for disk in await here.free("/"))
    # An engine in a virtual machine, one that was not reached yet, and one of another machine.
    assert len(await here.free("/nosuch")) == 1
    assert len(await here.free("")) == 1
    assert len(await LocalDisks(tmp_path, engine_is_here=False).free("/")) == 1


async def test_many_that_look_at_once_are_all_told(tmp_path: Path) -> None:
    disks = LocalDisks(tmp_path, engine_is_here=False)
    looks = []
    # Some come between the end of a look and the moment at which the others hear of it.
    for _ in range(300):
        looks.append(asyncio.create_task(disks.free("")))
        await asyncio.sleep(0)
    assert {len(found) for found in await asyncio.gather(*looks)} == {1}


async def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released, looks = threading.Event(), []

    def hang(folder: str) -> os.statvfs_result:
        looks.append(folder)
        released.wait()
        return real(folder)

    real = os.statvfs
    monkeypatch.setattr("easyq_runner.adapters.local_disks.os.statvfs", hang)
    monkeypatch.setattr("easyq_runner.adapters.local_disks._PATIENCE", 0.01)
    disks = LocalDisks(tmp_path, engine_is_here=False)
    assert [await disks.free("") for _ in range(3)] == [(), (), ()]
    released.set()
    monkeypatch.setattr("easyq_runner.adapters.local_disks._PATIENCE", 5.0)
    assert len(await disks.free("")) == 1
    assert len(looks) == 1


def test_image_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    for text in ("", "[]", '{"images": [{"id": "a"}]}'):
        (tmp_path / "images.json").write_text(text, encoding="ascii")
        assert FileImageNotes(tmp_path / "images.json").read() == {}


# -------------------------------------------------------------------------------------------------------- registries
def test_refusals_are_told_from_failures() -> None:
    for message in ("unauthorized: authentication required", 'Head "http://r/": no basic auth credentials'):
        with pytest.raises(ImageRefused):
            raise_pull_failure(message)
    for message in ("dial tcp: lookup nosuch.invalid: no such host", "toomanyrequests: rate limit"):
        with pytest.raises(PullFailed):
            raise_pull_failure(message)


async def test_credentials(tmp_path: Path) -> None:
    auth = base64.b64encode(b"host:secret").decode()
    auths = {"reg.example:5000": {"auth": auth}, DOCKER_HUB: {"auth": auth}, "token.example": {"identitytoken": "t"}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}), encoding="ascii")
    credentials = RegistryCredentials({"own.example": ("me", "mine")}, config=str(tmp_path / "config.json"))

    async def told(registry: str) -> dict[str, str]:
        header = await credentials(registry)
        found: dict[str, str] = json.loads(base64.urlsafe_b64decode(header)) if header else {}
        return found

    assert await told("reg.example:5000") == {
        "username": "host",
        "password": "secret",
        "serveraddress": "reg.example:5000",
    }
    assert (await told(DOCKER_HUB))["username"] == "host"
    assert await told("token.example") == {"identitytoken": "t"}
    assert await told("open.example") == {}
    assert (await told("own.example"))["password"] == "mine"
    # The settings win over the host's file, also for Docker's own registry.
    hub = RegistryCredentials({"docker.io": ("me", "mine")}, config=str(tmp_path / "config.json"))
    assert json.loads(base64.urlsafe_b64decode(await hub(DOCKER_HUB)))["username"] == "me"
    # The same for who asks a registry himself.
    assert await credentials.login("reg.example:5000") == ("host", "secret")
    assert await credentials.login("own.example") == ("me", "mine")
    assert await credentials.login("token.example") is None
    assert await credentials.login("open.example") is None


async def test_credentials_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "nosuch-helper"}', encoding="ascii")
    assert await RegistryCredentials({}, config=str(tmp_path / "config.json"))("reg.example") == ""


# ------------------------------------------------------------------------------------------------------------ engine
def test_times_and_states_of_docker() -> None:
    raw: dict[str, Any] = {
        "Id": "c",
        "Image": "sha256:i",
        "Config": {"Labels": None},
        "State": {
            "Status": "exited",
            "ExitCode": 137,
            "OOMKilled": True,
            "Error": "",
            "StartedAt": "2026-11-24T22:27:54.74233394Z",
            "FinishedAt": "2026-11-24T23:27:55+01:00",
        },
    }
    snapshot = snapshot_of(raw)
    assert (snapshot.status, snapshot.exit_code, snapshot.oom_killed) == (Status.EXITED, 137, True)
    assert snapshot.started_at is not None
    assert snapshot.started_at % 1000 == pytest.approx(742.334, abs=0.01)
    assert snapshot.ran_for == pytest.approx(0.2577, abs=0.0001)
    raw["State"]["StartedAt"] = "0001-01-01T00:00:00Z"
    assert snapshot_of(raw).started_at is None
    raw["State"]["StartedAt"] = "yesterday"
    with pytest.raises(EngineFailed):
        snapshot_of(raw)


def test_addresses_of_engines() -> None:
    assert DockerHttp("unix:///run/docker.sock").socket_path == "/run/docker.sock"
    assert DockerHttp("tcp://127.0.0.1:2375").socket_path == ""
    for wrong in ("ssh://host", "docker.sock", "tcp://"):
        with pytest.raises(ValueError, match="expected unix"):
            DockerHttp(wrong)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Scripted:
    """An engine over a unix socket that answers what the test says."""

    def __init__(self) -> None:
        self.folder = make_folder("http")
        self.routes: dict[tuple[str, str], Handler] = {}
        self.seen: list[str] = []

    async def __aenter__(self) -> "Scripted":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.UnixSite(self.runner, str(self.folder / "s")).start()
        self.engine = DockerEngine(DockerHttp(f"unix://{self.folder}/s"), RegistryCredentials({}))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
        await self.runner.cleanup()
        remove_folder(self.folder)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        return await self.routes[request.method, request.path.split("/")[-1]](request)

    def says(self, method: str, last: str, body: object, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self.routes[method, last] = answer


@pytest.mark.parametrize(
    ("least", "most", "spoken"), [("1.12", "1.41", "1.41"), ("1.24", "1.52", "1.41"), ("1.44", "1.52", "1.44")]
)
async def test_speaks_what_the_engine_speaks(least: str, most: str, spoken: str) -> None:
    async with Scripted() as scripted:
        scripted.says("GET", "version", {"MinAPIVersion": least, "ApiVersion": most, "Version": "x"})
        scripted.says("GET", "info", {"ID": "i", "DockerRootDir": "/a", "LiveRestoreEnabled": True})
        scripted.says("GET", "networks", [{"Name": "bridge", "Id": "n"}])
        info = await scripted.engine.info()
        assert info.live_restore
        assert info.has_bridge
        assert f"GET /v{spoken}/info" in scripted.seen
        scripted.says("GET", "info", {"ID": "i", "DockerRootDir": "/b"})
        # Engines of one machine may share the key that their id is made of.
        assert (await scripted.engine.info()).daemon_id != info.daemon_id


async def test_failures_of_an_engine() -> None:
    async with Scripted() as scripted:
        scripted.says("POST", "start", {"message": "unable to find user nosuch: no matching entries"}, 500)
        with pytest.raises(InvalidRequest, match="nosuch"):
            await scripted.engine.start("c")
        scripted.says("POST", "start", {"message": "no space left on device"}, 500)
        with pytest.raises(EngineFailed, match="no space"):
            await scripted.engine.start("c")
        scripted.says("POST", "create", ["not what Docker says"], 400)
        with pytest.raises(InvalidRequest, match="400"):
            await scripted.engine.create("n", {}, "linux/amd64")


async def test_pull_that_fails_on_the_way() -> None:
    async with Scripted() as scripted:
        seen: list[dict[str, str]] = []

        async def pull(request: web.Request) -> web.StreamResponse:
            seen.append(dict(request.query))
            return web.Response(body=b'{"status":"Pulling"}\n{"error":"unexpected EOF"}\n')

        scripted.routes["POST", "create"] = pull
        with pytest.raises(PullFailed, match="unexpected EOF"):
            await scripted.engine.pull("reg:5000/a@sha256:ab", "linux/arm64")
        assert seen == [{"fromImage": "reg:5000/a", "tag": "sha256:ab", "platform": "linux/arm64"}]


async def test_a_call_without_an_answer_in_time_is_told_from_an_engine_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docker_engine, "_LOOK", 0.05)
    async with Scripted() as scripted:
        never = asyncio.Event()

        async def silent(_: web.Request) -> web.StreamResponse:
            await never.wait()
            return web.Response()

        scripted.routes["GET", "json"] = silent
        with pytest.raises(EngineSilent):
            await scripted.engine.inspect("c")
        never.set()
    with pytest.raises(EngineUnreachable) as away:
        await DockerEngine(DockerHttp("unix:///nowhere/at/all"), RegistryCredentials({})).inspect("c")
    assert not isinstance(away.value, EngineSilent)


async def test_answers_that_are_cut_off_are_no_answers() -> None:
    async with Scripted() as scripted:

        async def cut(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"\x01\x00\x00\x00\x00\x00\x00\x09half")
            assert request.transport is not None
            request.transport.abort()
            return response

        scripted.routes["GET", "logs"] = scripted.routes["POST", "attach"] = cut
        with pytest.raises(EngineUnreachable):
            [piece async for piece in scripted.engine.logs("c", follow=False)]

        async def short(_: web.Request) -> web.StreamResponse:
            return web.Response(body=b"\x01\x00\x00\x00\x00\x00\x00\x09half")

        scripted.routes["GET", "logs"] = scripted.routes["POST", "attach"] = short
        with pytest.raises(EngineUnreachable, match="cut off"):
            [piece async for piece in scripted.engine.logs("c", follow=True)]
        with pytest.raises(EngineUnreachable, match="cut off"):
            async with scripted.engine.attach("c") as pieces:
                [piece async for piece in pieces]


# -------------------------------------------------------------------------------------------------------------- peer
async def test_process_behind_a_socket_that_is_no_daemons() -> None:
    async with Scripted() as scripted:
        assert await process_behind(str(scripted.folder / "s")) == ""
    assert await process_behind("/nosuch") == await process_behind("") == ""


def test_process_of_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/comm").write_text("dockerd\n", encoding="ascii")
    (tmp_path / "7/stat").write_text("7 (dockerd) S " + " ".join(map(str, range(4, 60))), encoding="ascii")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b\n", encoding="ascii")
    assert describe(7, tmp_path) == "7 22 b"
    (tmp_path / "7/comm").write_text("systemd\n", encoding="ascii")
    assert describe(7, tmp_path) == describe(0, tmp_path) == ""
