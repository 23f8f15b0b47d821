"""Both distributions as wheels, and environments of their own in which they are installed."""

import json
import os
import subprocess
import sys
import tomllib
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CLIENT, SERVER = ROOT / "clients/python", ROOT
_TIMEOUT = 300


def build_wheels(folder: Path) -> list[Path]:
    """The wheels of the client and of the server, as the Dockerfile builds them."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _check([*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(CLIENT), str(SERVER)])
    return sorted(folder.glob("*.whl"))


def requirements(project: Path) -> list[Requirement]:
    """What a distribution says that it needs."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(text) for text in document["project"]["dependencies"]]


def oldest(project: Path) -> list[str]:
    """The lower bounds of all that, as pins."""
    pins = []
    for one in requirements(project):
        [bound] = [clause for clause in one.specifier if clause.operator in {">=", "=="}]
        pins.append(f"{one.name}=={bound.version}")
    return pins


class Environment:
    """A virtual environment without anything but what is installed into it."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self._wheels = wheels
        _check([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(folder)])

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    @property
    def easyq(self) -> str:
        """The command that came with the client."""
        return str(self.folder / "bin/easyq")

    def install(self, *arguments: str) -> None:
        """From the folder of wheels, and whatever index this machine uses."""
        options = ["--quiet", "--find-links", str(self._wheels), *arguments]
        uv = [sys.executable, "-m", "uv", "pip", "install", "--python", self.python, *options]
        # uv takes a tenth of pip's time, but does not know pip's own configuration.
        if subprocess.run(uv, capture_output=True, timeout=_TIMEOUT, check=False).returncode != 0:
            _check([sys.executable, "-m", "pip", "--python", self.python, "install", *options])

    @cached_property
    def installed(self) -> dict[str, str]:
        """Version by name of all that is there."""
        listing = [sys.executable, "-m", "uv", "pip", "list", "--format", "json", "--python", self.python]
        found = json.loads(subprocess.run(listing, capture_output=True, timeout=_TIMEOUT, check=True).stdout)
        return {canonicalize_name(one["name"]): one["version"] for one in found}

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        """What a command that succeeds, and says nothing on stderr, prints."""
        done = subprocess.run(
            # Away from the repository, so that nothing is imported from there.
            command,
            cwd=self.folder,
            env=env or {**os.environ, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), (command, done.returncode, done.stderr)
        return done.stdout


def _check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
