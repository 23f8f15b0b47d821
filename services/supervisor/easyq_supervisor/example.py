"""The example image: what a newcomer's first job runs, without a registry and without internet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from easyq_supervisor.adapters import busybox, docker_engine, packages

#: A fixed tag, so that an image that is present is never pulled.
IMAGE = "easyq-example:1"
_SOURCE = "busybox:1"
_POLL = 1.0


async def provide(
    url: str, *, may_install: bool, missing: str, is_starting: bool, settled: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Sees to it that the engine at `url` has the image; waits for an engine that does not answer yet.

    `missing` is what to say, once, where it does not answer; `is_starting`: it is about to. `settled` is set when the
    image is there, or when it was said why it is not: nobody waits for an engine that may never come.
    """
    is_told = is_starting
    while True:
        answers = await docker_engine.answers(url)
        if not answers and not is_told:
            say(missing)
            is_told = True
        if not answers and not is_starting:
            settled.set()
        if answers:
            try:
                if not await docker_engine.has_image(url, IMAGE):
                    await _make(url, may_install=may_install, say=say)
                settled.set()
                return
            except docker_engine.ERRORS as error:
                say(f"the example image {IMAGE} can't be had at {url} now: {error}")
                settled.set()
        await asyncio.sleep(_POLL)


def called_as(program: str, found: str | None) -> str:
    """How a person calls this program: by its name where the shell finds it, else by the path that was used.

    `program` is `sys.argv[0]`, `found` what the search path has under its name.
    """
    name = Path(program).name
    return name if found == program else program


def invitation(rest: str, grpc: str, *, program: str) -> tuple[str, list[str]]:
    """A command that works as it stands, and words on what to do after it. `program` is how `easyq` is called here."""
    body = json.dumps({"image": IMAGE, "command": "echo Hello from EasyQ"})
    curl = f"curl -XPOST -H 'Content-Type: application/json' -d '{body}' {rest}/tasks/hello"
    after = [
        f"its output, with the jobId of the answer: curl {rest}/tasks/hello/jobs/JOBID/stdout",
        f"or both at once: {first_job(grpc, program=program)}",
    ]
    return curl, after


def first_job(grpc: str, *, program: str) -> str:
    """The shortest command that runs a container and shows its output."""
    server = "" if grpc == "127.0.0.1:10001" else f" --server {grpc}"
    return f"{program} run{server} {IMAGE} -- echo Hello from EasyQ"


async def _make(url: str, *, may_install: bool, say: Callable[[str], None]) -> None:
    if await docker_engine.runs_this_machines_programs(url):
        found = busybox.static_busybox()
        if found is None and may_install and packages.can_install():
            try:
                await packages.install("busybox-static", say)
            except packages.InstallError as error:
                say(f"busybox-static could not be installed: {error}")
            found = busybox.static_busybox()
        if found is not None:
            root = await asyncio.to_thread(busybox.root_of, found)
            await docker_engine.import_image(url, root, IMAGE)
            return
    say(f"pulling {_SOURCE} as the example image")
    await docker_engine.pull_image(url, _SOURCE, IMAGE)
