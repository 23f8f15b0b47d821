"""Debian's packages, as root."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable

#: Debian keeps daemons in folders that are not on everyone's PATH.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# Debian would start a daemon that it installs; this one shall be ours alone.
_NO_START = "#!/bin/sh\nexit 101\n"
_POLICY = "/usr/sbin/policy-rc.d"


class InstallError(Exception):
    """A package could not be installed; the message is the end of what apt-get said."""


def find_program(name: str) -> str | None:
    """Full path of a program, also where daemons are."""
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    return shutil.which(name, path=folders)


def can_install() -> bool:
    """Whether this is root on a Debian-like system."""
    return os.geteuid() == 0 and find_program("apt-get") is not None


async def install(package: str, say: Callable[[str], None]) -> None:
    """Installs a package without starting its daemon. Raises InstallError."""
    say(f"installing the package {package}")
    made_policy = await asyncio.to_thread(_forbid_starts)
    try:
        await _apt("update", "-q")
        await _apt("install", "-q", "-y", "--no-install-recommends", package)
    finally:
        if made_policy:
            await asyncio.to_thread(os.unlink, _POLICY)


def _forbid_starts() -> bool:
    try:
        policy = os.open(_POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except OSError:
        return False  # the operator has a policy of their own
    with os.fdopen(policy, "w") as file:
        file.write(_NO_START)
    return True


async def _apt(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("apt-get", *arguments),
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        raise
    if process.returncode:
        said = output.decode(errors="replace").strip().splitlines()[-3:]
        raise InstallError(f"apt-get {' '.join(arguments)}: {' / '.join(said)}")
