"""Asking a Docker Engine whether it is there, and seeing to it that it has the example image."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import Iterator

import docker
import docker.errors
import requests

_PATIENCE = 5
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ERRORS = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)


async def answers(url: str) -> bool:
    """Whether an engine answers there now."""
    return await asyncio.to_thread(_answers, url)


async def has_image(url: str, name: str) -> bool:
    """Raises one of ERRORS."""
    return await asyncio.to_thread(_has_image, url, name)


async def import_image(url: str, root: bytes, name: str) -> None:
    """Makes an image of one layer out of a root file system (a tar). Raises one of ERRORS."""
    await asyncio.to_thread(_import_image, url, root, name)


async def pull_image(url: str, source: str, name: str) -> None:
    """Pulls `source`, and names it `name` as well. Raises one of ERRORS."""
    await asyncio.to_thread(_pull_image, url, source, name)


async def runs_this_machines_programs(url: str) -> bool:
    """Whether a program of this machine runs in a container there: the same kind of processor. Raises ERRORS."""
    return await asyncio.to_thread(_same_architecture, url)


@contextlib.contextmanager
def _client(url: str, timeout: float = _PATIENCE) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(base_url=url, timeout=int(timeout))) as client:
        yield client


def _answers(url: str) -> bool:
    try:
        with _client(url, 2) as client:
            return bool(client.ping())
    except ERRORS:
        return False


def _has_image(url: str, name: str) -> bool:
    with _client(url) as client:
        try:
            client.images.get(name)
        except docker.errors.ImageNotFound:
            return False
        return True


def _import_image(url: str, root: bytes, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    changes = ["ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", 'CMD ["/bin/sh"]']
    with _client(url, 60) as client:
        client.api.import_image_from_data(root, repository=repository, tag=tag, changes=changes)


def _pull_image(url: str, source: str, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    with _client(url, 120) as client:
        client.images.pull(source).tag(repository, tag)


def _same_architecture(url: str) -> bool:
    with _client(url) as client:
        told = client.version()
    machine = platform.machine()
    return told.get("Os") == "linux" and told.get("Arch") == _ARCHITECTURES.get(machine, machine)
