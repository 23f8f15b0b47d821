"""The two calls to a Docker Engine that the watchdog needs, over plain sockets: http.client alone takes 7 MB."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from easyq_runner.domain.labels import AGENT, FARM
from easyq_runner.domain.watch import Ward

if TYPE_CHECKING:
    import ssl

# Seconds without a word from the engine. A stopped one answers what was asked when it goes on.
_PATIENCE = 15.0
# Calls under way at once: the engine answers a kill when the container has ended.
_WIDTH = 64
_PORT = 2375
_TLS_PORT = 2376
_CHUNK = 65_536

OK = 200
NO_CONTENT = 204
NOT_FOUND = 404
# Docker's word for: it does not run.
CONFLICT = 409


class NoAnswer(Exception):
    """The engine could not be reached, or gave no whole answer."""


class Engine:
    """The engine of a ward. Raises ValueError for an address that is none, OSError for certificates that can't be read.

    Every call has a connection of its own and is HTTP/1.0, in which an answer ends where its connection does.
    """

    def __init__(self, ward: Ward, *, patience: float = _PATIENCE) -> None:
        self._url = urlsplit(ward.engine)
        self._patience = patience
        if self._url.scheme not in {"unix", "tcp", "http", "https"}:
            raise ValueError(f"docker host {ward.engine}: expected unix:///path or tcp://host:port")
        self._filters = quote(json.dumps({"label": [f"{FARM}={ward.farm}", f"{AGENT}={ward.agent_id}"]}), safe="")
        self._tls = _tls(ward.tls) if ward.tls or self._url.scheme == "https" else None

    def list(self, *, ended: bool = False) -> dict[str, dict[str, str]]:
        """Labels by id of the agent's containers that run, or with `ended` of all. Raises NoAnswer."""
        path = f"/containers/json?all={'true' if ended else 'false'}&filters={self._filters}"
        try:
            status, body = self._read(self._send("GET", path))
            if status != OK:
                raise NoAnswer(f"status {status}")
            return {one["Id"]: one["Labels"] or {} for one in json.loads(body)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error

    def kill(self, containers: Iterable[str]) -> dict[str, int]:
        """SIGKILL to all, side by side; the answer's status by container, 0 where there was none."""
        waiting = list(containers)
        statuses: dict[str, int] = {}
        while waiting:
            statuses |= self._kill_together(waiting[:_WIDTH])
            waiting = waiting[_WIDTH:]
        return statuses

    def _kill_together(self, containers: Sequence[str]) -> dict[str, int]:
        statuses = dict.fromkeys(containers, 0)
        sent: dict[str, socket.socket] = {}
        for container in containers:
            try:
                sent[container] = self._send("POST", f"/containers/{container}/kill?signal=SIGKILL")
            except OSError:
                continue
        for container, connection in sent.items():
            try:
                statuses[container], _ = self._read(connection)
            except (OSError, ValueError):
                continue
        return statuses

    def _send(self, method: str, path: str) -> socket.socket:
        connection = self._connect()
        try:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> socket.socket:
        if self._url.scheme == "unix":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self._patience)
            try:
                connection.connect(self._url.path)
            except BaseException:
                connection.close()
                raise
            return connection
        port = self._url.port or (_TLS_PORT if self._tls else _PORT)
        plain = socket.create_connection((self._url.hostname or "", port), self._patience)
        return self._tls.wrap_socket(plain, server_hostname=self._url.hostname) if self._tls else plain

    @staticmethod
    def _read(connection: socket.socket) -> tuple[int, bytes]:
        """Status and body. Raises OSError, ValueError."""
        data = b""
        with connection:
            while chunk := connection.recv(_CHUNK):
                data += chunk
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            raise ValueError("the engine broke its answer off")
        return int(head.split(maxsplit=2)[1]), body


def _tls(files: tuple[str, str, str] | None) -> ssl.SSLContext:
    import ssl  # takes memory that few need

    context = ssl.create_default_context(cafile=files[0] if files else None)
    if files:
        context.load_cert_chain(files[1], files[2])
    return context
