"""`easyq doctor`: what is wrong, and what to do. Looks only; changes nothing."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from easyq.cli import exits
from easyq.cli.checks import Check, Disk, needs_engine, of_disk, of_hanging, of_port, of_status, of_versions
from easyq.cli.data_folder import DEFAULT, data_folder_of
from easyq.cli.frame import Out, Server, View, with_output, with_server
from easyq.cli.listeners import Listener, listener_at
from easyq.cli.plain import plain
from easyq.cli.probe import Kind, look_at
from easyq.cli.table import Screen, paint, wrap

if TYPE_CHECKING:
    from easyq.v1.farm_service_pb2 import Status

# The gateway's own look at the farm takes up to its `status_timeout`, 3 s, and by its `request_timeout` never more than
# 15 s unless that was raised. Whoever gives up before hears nothing in just the outage in which the gateway knows most:
# that of a neighbour which hangs.
_PATIENCE = 20.0
# A process that lives greets whoever connects, and that without asking anybody: one that is silent for so long hangs.
_GREETING = 5.0
_DOCKER_TIMEOUT = 3.0
_PORTS = ((10000, "rest"), (10001, "grpc"))
_STYLES = {"ok": "good", "warn": "warn", "fail": "bad", "skip": "dim"}
_LOCAL = ("127.", "localhost:", "[::1]", "unix:")
_DEFAULT_SOCKET = "/var/run/docker.sock"
_DOCKER: dict[type[Exception], str] = {
    PermissionError: "add your user to the group docker, and log in again; or run it as root",
    FileNotFoundError: "install Docker, or name another by DOCKER_HOST or `easyq up --docker-host`",
    ConnectionRefusedError: "start it: systemctl start docker",
}


@click.command(short_help="Check server, Docker, Redis, store, ports, clock, versions, disk.")
@with_output()
@with_server
def doctor(*, server: Server, out: Out) -> None:
    """Check the server and this machine, and say for each thing that is wrong what to do.

    Docker, ports and disk are this machine's, and looked at where the server is here (or none answers); the disk is
    that of the server's data folder. The rest is told by the server. Exits with 1 where anything fails.
    """
    choice = server.choice
    found = list(_checks(choice.server, choice.source))
    failed = any(one.state == "fail" for one in found)
    tree = {
        "ok": not failed,
        "server": choice.server,
        "checks": [
            {"name": one.name, "state": one.state, "message": one.message, "todo": one.todo or None} for one in found
        ],
    }
    out.print(View(tree, lambda screen: _lines(found, screen)))
    sys.exit(exits.FAILED if failed else exits.OK)


def _lines(found: list[Check], screen: Screen) -> list[str]:
    lines = []
    wide = max(len(plain(one.name)) for one in found)
    for one in found:
        indent = " " * (6 + wide + 2)
        room = None if screen.columns is None else max(20, screen.columns - len(indent))
        first, *rest = wrap(plain(one.message), room)
        lines.append(f"{paint(one.state.ljust(4), _STYLES[one.state], screen)}  {plain(one.name).ljust(wide)}  {first}")
        lines += [indent + line for line in rest]
        if one.todo:
            first, *rest = wrap("→ " + plain(one.todo), room)
            lines += [indent + first, *(f"{indent}  {line}" for line in rest)]
    bad = sum(one.state == "fail" for one in found)
    odd = sum(one.state == "warn" for one in found)
    lines += ["", "all is well" if not bad + odd else f"{bad} failed, {odd} to look at"]
    return lines


def _checks(address: str, source: str) -> Iterator[Check]:
    here = address.startswith(_LOCAL)
    holder = _easyq_at(address) if here else None
    status, reached = _reach(address, source, holder)
    yield reached
    if status is not None:
        yield from of_status(status, time.time())
        yield from of_versions(version("easyq-client"), status.version, status.agents)
    if status is not None and not here:
        yield Check(name="docker", state="skip", message="the server is elsewhere: each host's is told above")
        return
    yield _server_here()
    yield from _docker(status, hangs=status is None and holder is not None)
    if status is None:
        for port, what in _PORTS:
            place = f"127.0.0.1:{port}"
            who = listener_at(place)
            taken = who is not None or look_at(place, 1.0).kind is not Kind.REFUSED
            yield of_port(port, what, taken=taken, by_easyq=_easyq_at(place) is not None, who=who.words if who else "")
    yield from _disks(address if status is not None or holder is not None else None)


def _easyq_at(address: str) -> Listener | None:
    """The program of EasyQ that holds an address of this machine, whether it answers or not."""
    found = listener_at(address)
    if found is None:
        return None
    # The lock of `easyq up` tells it, too, where its gateway is started by another name.
    return found if found.is_easyq or data_folder_of(address) is not None else None


def _reach(address: str, source: str, holder: Listener | None) -> tuple[Status | None, Check]:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from easyq.cli.sentences import sentence
    from easyq.client import Client
    from easyq.errors import DeadlineExceeded, EasyQError

    try:
        if holder is not None and look_at(address, _GREETING).kind is Kind.SILENT:
            return None, of_hanging(address, source, holder.words, holder.pid, stopped=holder.stopped, after=_GREETING)
        with Client(address, timeout=_PATIENCE, repeats=False) as client:
            status = client.status()
    except DeadlineExceeded as error:
        if holder is None:
            words = look_at(address).words(address) or sentence(error)
            return None, _not_reached(address, source, words)
        return None, of_hanging(address, source, holder.words, holder.pid, stopped=holder.stopped, after=_PATIENCE)
    except EasyQError as error:
        return None, _not_reached(address, source, look_at(address).words(address) or sentence(error))
    return status, Check(name="address", state="ok", message=f"EasyQ {status.version} answers at {address} ({source})")


def _not_reached(address: str, source: str, words: str) -> Check:
    text, _, todo = words.partition("; ")
    if not todo:
        todo = "start one on this machine: easyq up" if address.startswith(_LOCAL) else "is the address right?"
    return Check(name="address", state="fail", message=f"{text} (from {source})", todo=todo)


def _server_here() -> Check:
    try:
        return Check(name="install", state="ok", message=f"easyq-server {version('easyq-server')} is installed here")
    except PackageNotFoundError:
        return Check(name="install", state="skip", message="easyq-server is not installed here; only servers need it")


def _docker(status: Status | None, *, hangs: bool) -> Iterator[Check]:
    """The Docker Engine that the docker command would use here. `hangs`: an EasyQ is here, and does not tell its
    hosts."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{_DEFAULT_SOCKET}"
    try:
        told = _ask(host, "/version")
        info = _ask(host, "/info")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if hangs or (status is not None and not needs_engine(status, host)):
            text = f"no Docker Engine at {host}; EasyQ's hosts have engines of their own"
            yield Check(name="docker", state="skip", message=text)
            return
        todo = _DOCKER.get(type(error), "see its log: journalctl -u docker")
        reason = getattr(error, "strerror", None) or str(error)
        yield Check(name="docker", state="fail", message=f"no Docker Engine answers at {host}: {reason}", todo=todo)
        return
    yield Check(name="docker", state="ok", message=f"Docker Engine {told.get('Version', '?')} answers at {host}")
    root = str(info.get("DockerRootDir", ""))
    if root and host.startswith("unix:"):
        yield from _disk("Docker's images", root)


def _ask(host: str, path: str) -> dict[str, Any]:
    """One GET. Raises OSError, ValueError, HTTPException."""
    kind, _, rest = host.partition("://")
    if kind == "unix":
        connection: http.client.HTTPConnection = _UnixConnection(rest)
    elif kind in {"tcp", "http"}:
        connection = http.client.HTTPConnection(rest.strip("/"), timeout=_DOCKER_TIMEOUT)
    else:
        raise ValueError(f"doctor can't look at {kind}://")
    try:
        connection.request("GET", path, headers={"Host": "docker"})
        answer = json.loads(connection.getresponse().read(4 * 1024 * 1024))
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_DOCKER_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_DOCKER_TIMEOUT)
        self.sock.connect(self._path)


def _disks(serving: str | None) -> Iterator[Check]:
    """`serving`: the address of the EasyQ here that answered, if one did."""
    folder = Path(DEFAULT).expanduser() if serving is None else data_folder_of(serving)
    if folder is not None:
        yield from _disk("EasyQ's data", str(folder))
    else:
        text = "EasyQ's data: where it is can't be seen from here (another user's, or not by `easyq up`)"
        yield Check(name="disk", state="skip", message=text)
    yield from _disk("temporary files", os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - only looked at


def _disk(what: str, path: str) -> Iterator[Check]:
    at = Path(path)
    while not at.exists() and at != at.parent:
        at = at.parent
    try:
        usage = shutil.disk_usage(at)
    except OSError:
        return
    yield of_disk(Disk(what=what, path=path, free=usage.free, total=usage.total))
