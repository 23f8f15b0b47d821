"""What Docker's own event streams say: who ran when and where, whatever EasyQ has on record."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import docker
import docker.errors
import requests

from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

PREFIX = "easyq-"

_CONTAINERS = {"type": "container"}
_AWAY = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Event:
    host: str
    action: str
    container: str
    name: str
    labels: dict[str, str]
    nanoseconds: int

    @property
    def execution_id(self) -> str:
        return self.name.removeprefix(PREFIX)


class DockerObserver:
    """Reads the events of containers on each host from `with` on, over restarts of the daemons."""

    def __init__(self, hosts: Iterable[DockerHost]) -> None:
        self._hosts = list(hosts)
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        # Nanoseconds since the epoch.
        self._began = 0
        self._streams: dict[str, Any] = {}
        self._threads = [
            threading.Thread(target=self._follow, args=(host,), name=f"events {host.label}", daemon=True)
            for host in self._hosts
        ]

    def __enter__(self) -> Self:
        self._began = time.time_ns()
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self._streams) == len(self._hosts), message="event streams are open")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for stream in self._streams.values():
            stream.close()
        for host in self._hosts:
            self._catch_up(host)

    def _catch_up(self, host: DockerHost) -> None:
        """Asks for what has happened, and may not have been read from the stream yet."""
        with (
            contextlib.suppress(*_AWAY),
            contextlib.closing(docker.DockerClient(base_url=host.url, timeout=10)) as client,
        ):
            # To the nanosecond, which the SDK passes on as it stands.
            now: Any = f"{time.time():.9f}"
            since = self._began // 1_000_000_000
            for raw in client.api.events(decode=True, filters=_CONTAINERS, since=since, until=now):
                if raw["timeNano"] >= self._began:
                    self._add(host, raw)

    def _follow(self, host: DockerHost) -> None:
        since = self._began // 1_000_000_000
        while not self._ended.is_set():
            try:
                client = docker.DockerClient(base_url=host.url, timeout=3600)
                stream = client.api.events(decode=True, filters=_CONTAINERS, since=since)
                self._streams[host.label] = stream
                for raw in stream:
                    since = raw["time"]
                    if raw["timeNano"] >= self._began:
                        self._add(host, raw)
            except _AWAY:
                pass  # the daemon is away: once more
            self._ended.wait(0.1)

    def _add(self, host: DockerHost, raw: dict[str, Any]) -> None:
        attributes = raw["Actor"]["Attributes"]
        event = Event(
            host=host.label,
            action=raw["Action"].partition(":")[0],
            container=raw["Actor"]["ID"],
            name=attributes.get("name", ""),
            labels=attributes,
            nanoseconds=raw["timeNano"],
        )
        with self._lock:
            # A stream that was opened again may repeat what it told before.
            if event not in self._events[-500:]:
                self._events.append(event)

    def events(self, action: str = "") -> list[Event]:
        """In the order of time; only those of EasyQ's containers."""
        with self._lock:
            found = [event for event in self._events if event.name.startswith(PREFIX)]
        return sorted((e for e in found if not action or e.action == action), key=lambda e: e.nanoseconds)

    def starts(self, execution_id: str) -> int:
        return sum(event.execution_id == execution_id for event in self.events("start"))

    def hosts_used(self) -> set[str]:
        return {event.host for event in self.events("start")}

    def most_at_once(self, which: Callable[[Event], bool] = lambda _event: True) -> int:
        """The largest number of containers that ran at the same time, of those whose events `which` is true for."""
        running: set[str] = set()
        most = 0
        for event in self.events():
            if not which(event):
                continue
            if event.action == "start":
                running.add(event.container)
                most = max(most, len(running))
            elif event.action in {"die", "destroy"}:
                running.discard(event.container)
        return most

    def most_on_host(self, label: str) -> int:
        return self.most_at_once(lambda event: event.host == label)
