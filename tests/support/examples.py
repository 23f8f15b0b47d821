"""The programs below examples/ in other languages, built as their READMEs say, in a copy of what they need."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.missing import missing, require_program

ROOT = Path(__file__).resolve().parents[2]
# Modules are fetched by whoever builds first (`make servers`), and compiled once: both are kept in the user's caches.
_BUILD_TIMEOUT = 300


class Checkout:
    """The repository as far as the examples need it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: What built each, as its README has it.
        self.built = {"go": ["buf generate", "go build -o run ."], "node": ["npm ci"]}
        made_by_builds = shutil.ignore_patterns("gen", "node_modules", "run")
        for name in ("examples", "protos/easyq", "protos/third_party"):
            shutil.copytree(ROOT / name, folder / name, ignore=made_by_builds)
        shutil.copy(ROOT / "buf.yaml", folder)

    def go(self) -> list[str]:
        """The command of the Go program, built."""
        go = require_program("go", "https://go.dev/dl, 1.25 or later")
        buf = Path(sys.executable).with_name("buf")
        if not buf.exists():
            missing("buf", "pip install buf-bin")
        here = self.folder / "examples/go"
        # `buf` calls `go tool` for the generators.
        env = {**os.environ, "PATH": os.pathsep.join((str(Path(go).parent), os.environ.get("PATH", os.defpath)))}
        _run([buf, "generate"], here, env)
        _run([go, "build", "-o", "run", "."], here, {**env, "GOFLAGS": "-mod=readonly"})
        return [str(here / "run")]

    def node(self) -> list[str]:
        """The command of the Node program, with its packages."""
        node = require_program("node", "apt-get install nodejs")
        npm = require_program("npm", "apt-get install npm")
        here = self.folder / "examples/node"
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        _run([npm, "ci", "--ignore-scripts", "--prefer-offline", *quiet], here, dict(os.environ))
        return [node, str(here / "run.js")]


def commands(readme: Path) -> list[str]:
    """The lines of its one block of shell."""
    [block] = re.findall(r"```sh\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    return list(block.splitlines())


def _run(command: list[str | Path], cwd: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
