"""What happens to a test whose server is not on this machine: skipped on a laptop, failed in CI."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PREFIX = "not on this machine: "

# Debian keeps daemons in folders that are not on everyone's PATH.
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def cache_bin() -> Path:
    """Where `make servers` puts the programs that it builds."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "easyq" / "bin"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_program(name: str) -> str | None:
    folders = (os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS, str(cache_bin()))
    return shutil.which(name, path=os.pathsep.join(folders))


def missing(what: str, how: str) -> NoReturn:
    """Ends the test that needs `what`; `how` tells how to get it."""
    reason = f"{PREFIX}{what} ({how})"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require_program(name: str, how: str) -> str:
    """The path of program `name`, or the end of the test."""
    return find_program(name) or missing(name, how)
