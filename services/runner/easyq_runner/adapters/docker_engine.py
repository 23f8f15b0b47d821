"""`ContainerEngine` over Docker's HTTP API."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NoReturn

from easyq_runner.adapters.docker_frames import FrameReader
from easyq_runner.adapters.docker_http import Answer, DockerHttp
from easyq_runner.adapters.docker_peer import process_behind
from easyq_runner.domain import labels
from easyq_runner.domain.images import familiar, parse_reference
from easyq_runner.domain.lifetime import Evidence
from easyq_runner.domain.outcome import Snapshot, Status
from easyq_runner.domain.pulling import LocalImage
from easyq_runner.errors import (
    EngineError,
    EngineFailed,
    EngineUnreachable,
    HostExhausted,
    ImageRefused,
    InvalidRequest,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
    NotNow,
    PullFailed,
    RegistryBusy,
)
from easyq_runner.ports import EngineEvent, EngineInfo, LastOutput, LogPiece

#: Credentials for a registry, as the value of X-Registry-Auth; empty for none.
Credentials = Callable[[str], Awaitable[str]]

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")

# Seconds.
_QUICK = 10.0
_USUAL = 60.0
# A look at one container, with which the engine may be stuck.
_LOOK = 20.0
# A busy disk may take long to unpack layers, or to remove them.
_SLOW = 300.0

# Docker answers 500 both when the host fails and when the job asks for what the image or the host doesn't have; only
# its words tell the two apart. A phrase that is missing here costs the job some attempts, no more.
_ASKED_FOR = (
    "unable to find user",
    "unable to find group",
    "could not select device driver",
    "error gathering device information",
    "is not a directory",
)
# What no engine can do anything for: the host has none left. Where there is no space may be a small file system of the
# job's own, which the free space of the host's disks tells.
_NO_SPACE = ("no space left on device", "disk quota exceeded")
_EXHAUSTED = (*_NO_SPACE, "cannot allocate memory", "too many open files", "input/output error")
# By registries that ask to come back later: an error code of the distribution API, and the status for want of one.
_BUSY = ("toomanyrequests", "429 Too Many Requests", "HTTP 429", "status code 429", "status: 429")
# What another try would hear again: error codes of that API, and Docker's own words for a missing login.
_REFUSALS = (
    "unauthorized",
    "denied",
    "no basic auth credentials",
    "manifest unknown",
    "name unknown",
    "no matching manifest",
    "invalid reference format",
)


class DockerEngine:
    """One engine. Its calls never block the event loop."""

    def __init__(self, http: DockerHttp, credentials: Credentials) -> None:
        self._http = http
        self._credentials = credentials

    # The engine itself ------------------------------------------------------------------------------------------
    async def ping(self) -> None:
        async with self._http.stream("GET", "/_ping", timeout=_QUICK, versioned=False) as answer:
            await answer.read()

    async def info(self) -> EngineInfo:
        version = await self._http.negotiate()
        info = await self._http.json("GET", "/info", timeout=_USUAL)
        root = hashlib.sha256(info["DockerRootDir"].encode()).hexdigest()[:8]
        return EngineInfo(
            # Engines on one machine may share the key that their id is made of; their data they can't share.
            daemon_id=f"{info['ID']}@{root}",
            version=str(version.get("Version", "")),
            live_restore=bool(info.get("LiveRestoreEnabled")),
            has_bridge=bool(await self._bridge()),
            cpus=int(info.get("NCPU") or 0),
            memory=int(info.get("MemTotal") or 0),
            root=str(info["DockerRootDir"]),
        )

    async def evidence(self) -> Evidence:
        now = (await self._http.json("GET", "/info", timeout=_USUAL))["SystemTime"]
        # By the engine's own clock: a time to come would make the call wait for it.
        params = {"since": "0", "until": "{}.{:09}".format(*divmod(_nanoseconds(now), 1_000_000_000))}
        async with self._http.stream("GET", "/events", timeout=_USUAL, params=params) as answer:
            times = [int(event["timeNano"]) async for event in answer.lines()]
        return Evidence(
            process=await process_behind(self._http.socket_path),
            bridge=await self._bridge(),
            events=tuple(times),
        )

    async def _bridge(self) -> str:
        for network in await self._http.json("GET", "/networks", timeout=_USUAL):
            if network["Name"] == "bridge":
                return f"{network['Id']} {network.get('Created', '')}"
        return ""

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        async with self._http.stream("GET", "/events", timeout=None) as answer:
            yield self._read_events(answer)

    async def _read_events(self, answer: Answer) -> AsyncIterator[EngineEvent]:
        async for raw in answer.lines():
            container = raw["Actor"]["ID"] if raw.get("Type") == "container" else ""
            yield EngineEvent(action=str(raw["Action"]), container_id=container, time=int(raw["timeNano"]))
        raise EngineUnreachable(f"{self._http.url}: the stream of events ended")

    # Containers -------------------------------------------------------------------------------------------------
    async def create(self, name: str, body: dict[str, Any], platform: str) -> str:
        params = {"name": name} | ({"platform": platform} if platform else {})
        errors: dict[int, type[EngineError]] = {404: NoSuchImage, 409: NameTaken}
        try:
            answer = await self._http.json(
                "POST", "/containers/create", params=params, body=body, timeout=_SLOW, errors=errors
            )
        except EngineFailed as error:
            raise_fault(error, exhausted=_EXHAUSTED)
        return str(answer["Id"])

    async def start(self, container_id: str) -> None:
        try:
            await self._http.json(
                "POST", f"/containers/{container_id}/start", timeout=_SLOW, errors={404: NoSuchContainer}
            )
        except NoSuchContainer as error:
            # The same status stands for a missing network.
            await self.inspect(container_id)
            raise InvalidRequest(str(error)) from error
        except EngineFailed as error:
            # Once it is about to run, memory may be what its own limit leaves.
            raise_fault(error, exhausted=_NO_SPACE)

    async def inspect(self, container: str) -> Snapshot:
        raw = await self._http.json(
            "GET", f"/containers/{container}/json", timeout=_LOOK, errors={404: NoSuchContainer}
        )
        return snapshot_of(raw)

    async def list_own(self, farm: str, agent_id: str) -> list[Snapshot]:
        return await self._list([f"{labels.FARM}={farm}", f"{labels.AGENT}={agent_id}"])

    async def list_farm(self, farm: str) -> list[Snapshot]:
        return await self._list([f"{labels.FARM}={farm}"])

    async def _list(self, wanted: list[str]) -> list[Snapshot]:
        params = {"all": "true", "filters": json.dumps({"label": wanted})}
        raw = await self._http.json("GET", "/containers/json", params=params, timeout=_USUAL)
        return [
            Snapshot(container_id=one["Id"], labels=one["Labels"] or {}, status=Status(one["State"])) for one in raw
        ]

    async def kill(self, container_id: str, signal: str) -> None:
        errors: dict[int, type[EngineError]] = {404: NoSuchContainer, 409: NotNow}
        path = f"/containers/{container_id}/kill"
        await self._http.json("POST", path, params={"signal": signal}, timeout=_USUAL, errors=errors)

    async def remove(self, container_id: str, *, force: bool) -> None:
        errors: dict[int, type[EngineError]] = {404: NoSuchContainer, 409: NotNow}
        params = {"v": "true"} | ({"force": "true"} if force else {})
        await self._http.json("DELETE", f"/containers/{container_id}", params=params, timeout=_SLOW, errors=errors)

    async def logs(self, container_id: str, *, follow: bool) -> AsyncGenerator[LogPiece]:
        params = {"stdout": "true", "stderr": "true", "follow": "true" if follow else "false"}
        frames = FrameReader()
        async with self._http.stream(
            "GET",
            f"/containers/{container_id}/logs",
            params=params,
            timeout=None,
            idle=None if follow else _USUAL,
            errors={404: NoSuchContainer},
        ) as answer:
            async for data in answer.pieces():
                yield frames.feed(data)
        if not frames.whole:
            raise EngineUnreachable(f"{self._http.url}: the log of {container_id} was cut off")

    @asynccontextmanager
    async def attach(self, container_id: str) -> AsyncIterator[AsyncGenerator[LogPiece]]:
        params = {"stream": "true", "stdout": "true", "stderr": "true"}
        path = f"/containers/{container_id}/attach"
        async with self._http.stream(
            "POST", path, params=params, timeout=None, errors={404: NoSuchContainer}
        ) as answer:
            yield self._read_attached(answer, container_id)

    async def _read_attached(self, answer: Answer, container_id: str) -> AsyncGenerator[LogPiece]:
        frames = FrameReader()
        async for data in answer.pieces():
            yield frames.feed(data)
        if not frames.whole:
            raise EngineUnreachable(f"{self._http.url}: the output of {container_id} was cut off")

    async def last_output(self, container_id: str, messages: int) -> LastOutput:
        params = {"stdout": "true", "stderr": "true", "tail": str(messages)}
        async with self._http.stream(
            "GET", f"/containers/{container_id}/logs", params=params, timeout=_USUAL, errors={404: NoSuchContainer}
        ) as answer:
            frames = FrameReader()
            piece = frames.feed(await answer.read())
        return LastOutput(stdout=piece.stdout, stderr=piece.stderr, whole=frames.frames < messages)

    # Images -----------------------------------------------------------------------------------------------------
    async def image(self, reference: str) -> LocalImage | None:
        try:
            raw = await self._http.json("GET", f"/images/{reference}/json", timeout=_USUAL, errors={404: NoSuchImage})
        except NoSuchImage:
            return None
        own = familiar(parse_reference(reference).repository)
        known = any(digest.partition("@")[0] == own for digest in raw.get("RepoDigests") or ())
        return LocalImage(
            image_id=str(raw["Id"]),
            known_to_registry=known,
            size=int(raw.get("Size") or 0),
            tags=tuple(raw.get("RepoTags") or ()),
        )

    async def image_ids(self) -> frozenset[str]:
        return frozenset(str(one["Id"]) for one in await self._http.json("GET", "/images/json", timeout=_USUAL))

    async def images_in_use(self) -> frozenset[str]:
        raw = await self._http.json("GET", "/containers/json", params={"all": "true"}, timeout=_USUAL)
        return frozenset(str(one["ImageID"]) for one in raw)

    async def remove_image(self, reference: str) -> None:
        errors: dict[int, type[EngineError]] = {404: NoSuchImage, 409: NotNow}
        await self._http.json("DELETE", f"/images/{reference}", timeout=_SLOW, errors=errors)

    async def pull(self, reference: str, platform: str) -> None:
        parts = parse_reference(reference)
        params = {"fromImage": parts.repository, "tag": parts.version} | ({"platform": platform} if platform else {})
        auth = await self._credentials(parts.registry)
        headers = {"X-Registry-Auth": auth} if auth else {}
        errors: dict[int, type[EngineError]] = {404: ImageRefused, 400: ImageRefused}
        try:
            async with self._http.stream(
                "POST", "/images/create", params=params, headers=headers, timeout=None, idle=_SLOW, errors=errors
            ) as answer:
                async for line in answer.lines():
                    if "error" in line:
                        raise_pull_failure(str(line["error"]))
        except (EngineFailed, InvalidRequest) as error:
            raise_pull_failure(str(error))

    async def close(self) -> None:
        """Ends all connections."""
        await self._http.close()


def raise_fault(error: EngineFailed, *, exhausted: tuple[str, ...]) -> NoReturn:
    """Raises InvalidRequest where the words say that the job asks for what isn't there, HostExhausted where they are
    one of `exhausted`, else the error itself."""
    said = str(error)
    if any(phrase in said for phrase in exhausted):
        raise HostExhausted(said) from error
    if any(phrase in said for phrase in _ASKED_FOR):
        raise InvalidRequest(said) from error
    raise error


def raise_pull_failure(message: str) -> NoReturn:
    """Raises HostExhausted where the host is at fault, RegistryBusy where the registry asks to come back later,
    ImageRefused where another try would hear the same, else PullFailed."""
    if any(phrase in message for phrase in _EXHAUSTED):
        raise HostExhausted(message)
    if any(phrase in message for phrase in _BUSY):
        raise RegistryBusy(message)
    if any(phrase in message for phrase in _REFUSALS):
        raise ImageRefused(message)
    raise PullFailed(message)


def snapshot_of(raw: dict[str, Any]) -> Snapshot:
    """A container as Docker's `inspect` tells it."""
    state = raw["State"]
    return Snapshot(
        container_id=raw["Id"],
        labels=raw["Config"].get("Labels") or {},
        status=Status(state["Status"]),
        exit_code=int(state["ExitCode"]),
        oom_killed=bool(state["OOMKilled"]),
        error=str(state.get("Error") or ""),
        started_at=_milliseconds(state["StartedAt"]),
        finished_at=_milliseconds(state["FinishedAt"]),
        image_id=str(raw.get("Image") or ""),
    )


def _milliseconds(text: str) -> float | None:
    """A time of Docker's; its zero time is None."""
    return None if text.startswith("0001-") else _nanoseconds(text) / 1e6


def _nanoseconds(text: str) -> int:
    """RFC 3339 with up to nine digits of a second, which `datetime` would cut to six."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise EngineFailed(f"the engine gives a time as {text!r}")
    seconds, fraction, zone = match.groups()
    moment = datetime.fromisoformat(seconds + (zone if zone != "Z" else "+00:00"))
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
