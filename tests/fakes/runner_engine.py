"""A Docker Engine in memory, and the other ends of the runner's ports.

Its containers understand a little shell (`Shell`), so that the same programs run here and on a real engine.
"""

import asyncio
import re
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from easyq_runner.domain.host import Disk
from easyq_runner.domain.image_cache import CachedImage
from easyq_runner.domain.images import parse_reference
from easyq_runner.domain.journal import Entry, JournalState, fold
from easyq_runner.domain.labels import AGENT, FARM
from easyq_runner.domain.lease import LeaseNote
from easyq_runner.domain.lifetime import MEMORY, Evidence
from easyq_runner.domain.outcome import Snapshot, Status
from easyq_runner.domain.pulling import LocalImage
from easyq_runner.domain.records import ExecutionKey, Stream, Verdict
from easyq_runner.errors import (
    EngineError,
    EngineSilent,
    EngineUnreachable,
    ImageRefused,
    InvalidRequest,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
    NotNow,
)
from easyq_runner.ports import AppendAnswer, EngineEvent, EngineInfo, LastOutput, LogPiece


class Shell:
    """`echo`, `sleep`, `exit`, `trap '…; exit N' TERM`, separated by `;` outside of quotes.

    `hold` is no program of a real shell: it goes on when the test says so (`FakeContainer.let_go`), so that a test that
    has to find something running does.
    """

    def __init__(self, command: list[str]) -> None:
        script = command[2] if command[:2] == ["sh", "-c"] else " ".join(command)
        self.statements = [part.strip() for part in re.findall(r"(?:'[^']*'|[^;'])+", script)]

    async def run(self, container: "FakeContainer") -> int:
        for statement in self.statements:
            code = await self._step(statement, container)
            if code is not None:
                return code
        return 0

    async def _step(self, statement: str, container: "FakeContainer") -> int | None:
        word, _, rest = statement.partition(" ")
        if word == "echo":
            text, to_stderr, _ = rest.partition(">&2")
            container.write(Stream.STDERR if to_stderr else Stream.STDOUT, text.strip().encode() + b"\n")
        elif word == "sleep":
            await asyncio.sleep(float(rest))
        elif word == "hold":
            await container.held.acquire()
        elif word == "trap":
            container.trap = int(re.findall(r"exit (\d+)", rest)[0])
        elif word == "exit":
            return int(rest)
        else:
            raise AssertionError(f"the fake's shell does not know {statement!r}")
        return None


# How its command begins, what its exit code is then, and why it can't be started.
_NO_PROGRAMS = (("/no/", 127, "no such file or directory"), ("/etc/", 126, "permission denied"))


@dataclass(eq=False, kw_only=True)
class FakeContainer:
    container_id: str
    name: str
    body: dict[str, Any]
    image_id: str
    status: Status = Status.CREATED
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int | None = None
    finished_at: int | None = None
    output: list[tuple[Stream, bytes]] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    trap: int | None = None
    held: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    task: asyncio.Task[None] | None = None

    def write(self, stream: Stream, data: bytes) -> None:
        self.output.append((stream, data))
        self.wake()

    def let_go(self) -> None:
        """Lets its program pass one `hold`: the one it waits in, or else the next."""
        self.held.release()

    def wake(self) -> None:
        self.written.set()
        self.written = asyncio.Event()


class FakeEngine:
    """`ContainerEngine` in memory. Set what is wrong: `up`, `closing`, `failures`, `lost_answers`."""

    def __init__(self) -> None:
        self.containers: dict[str, FakeContainer] = {}
        self.images: dict[str, LocalImage] = {"busybox": LocalImage(image_id="sha256:b0", known_to_registry=False)}
        # Bytes of each image that is pulled.
        self.image_size = 100
        self.cpus, self.memory = 4, 8 << 30
        # What a registry offers.
        self.registry: set[str] = set()
        # Ids of its images, where they are to differ; else the tag stands for one.
        self.digests: dict[str, str] = {}
        self.pull_takes = 0.0
        self.pulls: list[str] = []
        self.pulls_cancelled = 0
        self.calls: list[str] = []
        # By call: errors to be raised instead of doing anything, one each.
        self.failures: dict[str, list[EngineError]] = defaultdict(list)
        # By call: how many times it is done, and then the connection breaks.
        self.lost_answers: dict[str, int] = defaultdict(int)
        # Containers about which it gives no answer in time.
        self.stuck: set[str] = set()
        # Called between a request's arrival and its effect.
        self.gates: dict[str, asyncio.Event] = {}
        self.up = True
        # As a daemon that goes down: no new connections, the stream of events goes on.
        self.closing = False
        self.live_restore = False
        self.daemon_id = "daemon"
        self.process = "1 100 boot"
        self.bridge = ""
        self.history: list[int] = []
        self._subscribers: list[asyncio.Queue[EngineEvent | None]] = []
        # Live readings end after this many pieces, as a real engine's sometimes do.
        self.follow_ends_after: int | None = None
        # The same for attachments; or they break off.
        self.attached_ends_after: int | None = None
        self.attachments_break = False

    # What a test does to it ---------------------------------------------------------------------------------------
    async def go_down(self, *, by_kill: bool = False) -> None:
        """As dockerd ends: by TERM it closes its door, ends its containers and then the streams."""
        self.closing = True
        if not by_kill and not self.live_restore:
            await self._end_all()
        self.up = False
        for queue in self._subscribers:
            queue.put_nowait(None)
        self._subscribers = []

    async def come_up(self) -> None:
        """Another process; what still runs is ended before it answers, unless live-restore keeps it."""
        self.history = []
        self.process = f"{int(self.process.split()[0]) + 1} 200 boot"
        if not self.live_restore:
            await self._end_all()
        self.up, self.closing = True, False

    async def _end_all(self) -> None:
        for container in self.containers.values():
            if container.status.alive:
                self._end(container, container.trap if container.trap is not None else 137)
        await asyncio.sleep(0)

    def break_streams(self) -> None:
        """The connection breaks; the daemon lives on."""
        for queue in self._subscribers:
            queue.put_nowait(None)
        self._subscribers = []

    def end_first(self, container: FakeContainer) -> None:
        """The first that happens when the engine is told to go down."""
        self._end(container, container.trap or 0)

    def kill_by_kernel(self, container: FakeContainer, *, told: bool = True) -> None:
        """Out of memory; `told` if the engine shows it on the container, else only by an event."""
        container.oom_killed = told
        self._emit("oom", container.container_id)
        self._end(container, 137)

    def container_of(self, execution_id: str) -> FakeContainer:
        found = [one for one in self.containers.values() if one.name == f"easyq-{execution_id}"]
        assert found, f"there is no container of {execution_id}"
        return found[0]

    # ContainerEngine ----------------------------------------------------------------------------------------------
    async def ping(self) -> None:
        await self._enter("ping")

    async def info(self) -> EngineInfo:
        await self._enter("info")
        return EngineInfo(
            daemon_id=self.daemon_id,
            version="fake",
            live_restore=self.live_restore,
            has_bridge=bool(self.bridge),
            cpus=self.cpus,
            memory=self.memory,
            root="/var/lib/docker",
        )

    async def evidence(self) -> Evidence:
        await self._enter("evidence")
        return Evidence(process=self.process, bridge=self.bridge, events=tuple(self.history))

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        await self._enter("events")
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._subscribers.append(queue)
        yield self._read(queue)

    async def _read(self, queue: asyncio.Queue[EngineEvent | None]) -> AsyncIterator[EngineEvent]:
        while (event := await queue.get()) is not None:
            yield event
        raise EngineUnreachable("the stream of events ended")

    async def create(self, name: str, body: dict[str, Any], platform: str) -> str:
        await self._enter("create")
        image = self.images.get(body["Image"])
        if image is None:
            raise NoSuchImage(f"No such image: {body['Image']}")
        if any(one.name == name for one in self.containers.values()):
            raise NameTaken(f"the name {name} is in use")
        if 0 < body["HostConfig"].get("Memory", 0) < 6 * 1024 * 1024:
            raise InvalidRequest("Minimum memory limit allowed is 6MB")
        container_id = uuid.uuid4().hex
        self.containers[container_id] = FakeContainer(
            container_id=container_id, name=name, body=body, image_id=image.image_id
        )
        self._emit("create", container_id)
        self._leave("create")
        return container_id

    async def start(self, container_id: str) -> None:
        await self._enter("start")
        container = self._find(container_id)
        command = [*container.body.get("Entrypoint", ()), *container.body.get("Cmd", ())]
        for start, code, problem in _NO_PROGRAMS:
            if command and command[0].startswith(start):
                container.error, container.exit_code = problem, code
                raise InvalidRequest(f"exec: {command[0]}: {problem}")
        if container.status is not Status.RUNNING:
            container.status, container.started_at = Status.RUNNING, _now_ms()
            self._emit("start", container_id)
            container.task = asyncio.create_task(self._run(container, Shell(command)))
        self._leave("start")

    async def _run(self, container: FakeContainer, program: Shell) -> None:
        self._end(container, await program.run(container))

    def _end(self, container: FakeContainer, code: int) -> None:
        container.status, container.exit_code, container.finished_at = Status.EXITED, code, _now_ms()
        container.wake()
        self._emit("die", container.container_id)
        if container.task is not None and container.task is not asyncio.current_task():
            container.task.cancel()

    async def inspect(self, container: str) -> Snapshot:
        await self._enter("inspect")
        if container in self.stuck:
            await asyncio.sleep(0.05)
            raise EngineSilent("no answer in time")
        return self._snapshot(self._find(container))

    async def list_own(self, farm: str, agent_id: str) -> list[Snapshot]:
        await self._enter("list_own")
        return self._list({FARM: farm, AGENT: agent_id})

    async def list_farm(self, farm: str) -> list[Snapshot]:
        await self._enter("list_farm")
        return self._list({FARM: farm})

    def _list(self, wanted: dict[str, str]) -> list[Snapshot]:
        return [
            Snapshot(container_id=one.container_id, labels=one.body["Labels"], status=one.status)
            for one in self.containers.values()
            if wanted.items() <= one.body["Labels"].items()
        ]

    async def kill(self, container_id: str, signal: str) -> None:
        await self._enter("kill")
        container = self._find(container_id)
        if not container.status.alive:
            raise NotNow(f"container {container_id} is not running")
        self._emit("kill", container_id)
        if signal == "SIGKILL":
            self._end(container, 137)
        elif container.trap is not None:
            self._end(container, container.trap)
        self._leave("kill")

    async def remove(self, container_id: str, *, force: bool) -> None:
        await self._enter("remove")
        container = self._find(container_id)
        if container.status.alive:
            if not force:
                raise NotNow(f"container {container_id} is running")
            self._end(container, 137)
        del self.containers[container_id]
        self._emit("destroy", container_id)
        self._leave("remove")

    async def logs(self, container_id: str, *, follow: bool) -> AsyncGenerator[LogPiece]:
        await self._enter("logs")
        container = self._find(container_id)
        at = 0
        while True:
            written, output = container.written, container.output
            while at < len(output):
                if follow and self.follow_ends_after is not None and at >= self.follow_ends_after:
                    return
                stream, data = output[at]
                at += 1
                yield _piece(stream, data)
            if not self.up:
                raise EngineUnreachable("the log was cut off")
            if not follow or not container.status.alive:
                return
            await written.wait()

    @asynccontextmanager
    async def attach(self, container_id: str) -> AsyncIterator[AsyncGenerator[LogPiece]]:
        await self._enter("attach")
        container = self._find(container_id)
        yield self._read_attached(container, len(container.output))

    async def _read_attached(self, container: FakeContainer, at: int) -> AsyncGenerator[LogPiece]:
        while True:
            written = container.written
            while at < len(container.output) and at != self.attached_ends_after:
                stream, data = container.output[at]
                at += 1
                yield _piece(stream, data)
            if at == self.attached_ends_after:
                return
            if not self.up or self.attachments_break:
                raise EngineUnreachable("the output was cut off")
            if container.status not in {Status.CREATED, Status.RUNNING}:
                return
            await written.wait()

    async def last_output(self, container_id: str, messages: int) -> LastOutput:
        await self._enter("last_output")
        output = self._find(container_id).output
        last = output[-messages:]
        return LastOutput(
            stdout=b"".join(data for stream, data in last if stream is Stream.STDOUT),
            stderr=b"".join(data for stream, data in last if stream is Stream.STDERR),
            whole=len(output) < messages,
        )

    async def image(self, reference: str) -> LocalImage | None:
        await self._enter("image")
        return self.images.get(reference) or next(
            (one for one in self.images.values() if one.image_id == reference), None
        )

    async def image_ids(self) -> frozenset[str]:
        await self._enter("image_ids")
        return frozenset(one.image_id for one in self.images.values())

    async def images_in_use(self) -> frozenset[str]:
        await self._enter("images_in_use")
        return frozenset(one.image_id for one in self.containers.values())

    async def remove_image(self, reference: str) -> None:
        await self._enter("remove_image")
        found = {name: one for name, one in self.images.items() if reference in {name, one.image_id}}
        if not found:
            raise NoSuchImage(f"No such image: {reference}")
        if any(one.image_id == container.image_id for one in found.values() for container in self.containers.values()):
            raise NotNow(f"conflict: unable to remove {reference}: a container uses it")
        for name in found:
            del self.images[name]

    async def pull(self, reference: str, platform: str) -> None:
        await self._enter("pull")
        self.pulls.append(reference)
        try:
            await asyncio.sleep(self.pull_takes)
        except asyncio.CancelledError:
            self.pulls_cancelled += 1
            raise
        if reference not in self.registry:
            raise ImageRefused(f"manifest for {reference} not found: manifest unknown")
        digest = self.digests.get(reference) or f"sha256:{parse_reference(reference).version}"
        self.images[reference] = LocalImage(
            image_id=digest, known_to_registry=True, size=self.image_size, tags=(reference,)
        )

    # Inside -------------------------------------------------------------------------------------------------------
    async def _enter(self, call: str) -> None:
        self.calls.append(call)
        gate = self.gates.get(call)
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(0)
        if not self.up or self.closing:
            raise EngineUnreachable("connection refused")
        if self.failures[call]:
            raise self.failures[call].pop(0)

    def _leave(self, call: str) -> None:
        if self.lost_answers[call] > 0:
            self.lost_answers[call] -= 1
            raise EngineUnreachable("the connection broke")

    def _find(self, container: str) -> FakeContainer:
        for one in self.containers.values():
            if container in {one.container_id, one.name}:
                return one
        raise NoSuchContainer(f"No such container: {container}")

    @staticmethod
    def _snapshot(one: FakeContainer) -> Snapshot:
        return Snapshot(
            container_id=one.container_id,
            labels=one.body["Labels"],
            status=one.status,
            exit_code=one.exit_code,
            oom_killed=one.oom_killed,
            error=one.error,
            started_at=one.started_at,
            finished_at=one.finished_at,
            image_id=one.image_id,
        )

    def _emit(self, action: str, container_id: str) -> None:
        event = EngineEvent(action=action, container_id=container_id, time=time.time_ns())
        self.history = [*self.history, event.time][-MEMORY:]
        for queue in self._subscribers:
            queue.put_nowait(event)


class MemoryJournal:
    """`Journal` that outlives an agent as long as the test keeps it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.synced = 0
        self.failure: OSError | None = None
        # Syncs wait for it.
        self.gate: asyncio.Event | None = None

    async def load(self) -> JournalState:
        return fold(self.entries)

    async def append(self, entry: Entry, *, sync: bool = False) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.entries.append(entry)
        if sync:
            if self.gate is not None:
                await self.gate.wait()
            self.synced = len(self.entries)

    async def close(self) -> None:
        """Nothing is left to be written."""


class MemoryLogSink:
    """`LogSink` that keeps the bytes."""

    def __init__(self) -> None:
        self.output: dict[tuple[str, Stream], bytearray] = defaultdict(bytearray)
        self.stale: set[ExecutionKey] = set()
        self.appends = 0

    async def append(self, key: ExecutionKey, stream: Stream, offset: int, data: bytes) -> AppendAnswer:
        await asyncio.sleep(0)
        self.appends += 1
        kept = self.output[key.execution_id, stream]
        if key in self.stale:
            return AppendAnswer(verdict=Verdict.STALE, stored=len(kept))
        if offset > len(kept):
            return AppendAnswer(verdict=Verdict.GAP, stored=len(kept))
        kept += data[len(kept) - offset :]
        return AppendAnswer(verdict=Verdict.OK, stored=len(kept))


class MemoryImageNotes:
    """`ImageNotes` that outlives an agent as long as the test keeps it."""

    def __init__(self) -> None:
        self.cache: dict[str, CachedImage] = {}
        self.failure: OSError | None = None

    def read(self) -> dict[str, CachedImage]:
        return dict(self.cache)

    def write(self, cache: Mapping[str, CachedImage]) -> None:
        if self.failure is not None:
            raise self.failure
        self.cache = dict(cache)


class FakeDisks:
    """`Disks` with as much room as the test says; None: the engine's can't be seen."""

    def __init__(self) -> None:
        self.agent: int = 1 << 40
        self.engine: int | None = 1 << 40

    async def free(self, engine_root: str) -> tuple[Disk, ...]:
        await asyncio.sleep(0)
        seen = () if self.engine is None else (Disk(folder=engine_root, free=self.engine),)
        return (Disk(folder="/data", free=self.agent), *seen)


class FakeRegistries:
    """`Registries` that say what the test wants."""

    def __init__(self) -> None:
        self.wait: float | None = None
        self.asked: list[str] = []

    async def retry_after(self, reference: str) -> float | None:
        self.asked.append(reference)
        return self.wait


class MemoryLeaseNotes:
    """`LeaseNotes` that outlives an agent as long as the test keeps it."""

    def __init__(self, note: LeaseNote | None = None) -> None:
        self.note = note
        # Containers that the watchdog has ended.
        self.ended: set[str] = set()

    def read(self) -> LeaseNote | None:
        return self.note

    def write(self, note: LeaseNote) -> None:
        self.note = note

    def was_ended(self, container_id: str) -> bool:
        return container_id in self.ended


class FakeAgentClock:
    """`AgentClock` that runs with the real one, and can be moved."""

    def __init__(self) -> None:
        self.ahead = 0.0
        # By how much the wall clock is wrong besides, in seconds.
        self.wrong = 0.0
        self.boot_id = "boot"

    def boot(self) -> float:
        return time.monotonic() + self.ahead

    def now_ms(self) -> int:
        return _now_ms() + round((self.ahead + self.wrong) * 1000)


def _piece(stream: Stream, data: bytes) -> LogPiece:
    return LogPiece(stdout=data if stream is Stream.STDOUT else b"", stderr=data if stream is Stream.STDERR else b"")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
