"""What README.md and docs/ show is so: each page's snippets run in order in one shell, against one real system.

How a page says that a block can't be run, is a file, or is read by whom: tests/support/snippets.py.
"""

import json
import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from easyq_chassis.rules_file import contract
from easyq_supervisor.adapters.config_file import ConfigFile
from tests.support import process
from tests.support.farm import UpFarm
from tests.support.farm.up import EASYQ, clean_environment
from tests.support.hosts import DockerHost
from tests.support.missing import cache_bin, require_program
from tests.support.shell import Shell
from tests.support.snippets import ROOT, RUN, Block, Command, Names, blocks, commands, pages, printed
from tests.support.waiting import PATIENCE, wait_until

# Seconds for one command, and for what is shown after one that may be asked again.
PATIENT = 20.0 * PATIENCE
# The images that pages name; any other would have to come from somewhere.
IMAGES = ("busybox:1",)
# What the services say once each after new rules.
RULED = ("gateway", "store", "dispatcher")


class DocsFarm(UpFarm):
    """`easyq up` with a config file that pages may add to, and two agents whose names pages can rely on."""

    def __init__(self, hosts: list[DockerHost]) -> None:
        super().__init__(slots=8)
        self.config = self.folder / "easyq.toml"
        self._hosts = hosts
        self._added = ""
        self._write()

    def _write(self) -> None:
        hosts = (f'[[docker-host]]\nurl = "{host.url}"\nname = "host-{n}"\n' for n, host in enumerate(self._hosts, 1))
        fresh = self.config.with_suffix(".new")
        fresh.write_text("\n".join([self._added, *hosts]), encoding="utf-8")
        fresh.replace(self.config)

    def command(self) -> list[str]:
        made = super().command()
        at = made.index("--docker-host")
        return [*made[:at], *made[at + 2 :], "--config", str(self.config)]

    def add(self, text: str) -> None:
        """Puts `text` before the hosts in the config file; the services hold to it when this returns."""
        if text == self._added:
            return
        self._added = text
        loaded = self._loaded()
        self._write()
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: self._loaded() >= loaded + len(RULED), 20, message="rules are read")

    def mend(self) -> None:
        """Has back the agents that a page has drained."""
        if all(agent["state"] == "LIVE" for agent in self.rest.get("/agents")["items"]):
            return
        for agent in self.rest.get("/agents")["items"]:
            self.rest.call("DELETE", f"/agents/{agent['agentId']}/drain")

        def back() -> bool:
            # Again, since the agent may not have ended yet; one that runs is left as it is.
            os.kill(self.pid, signal.SIGHUP)
            return all(agent["state"] == "LIVE" for agent in self.rest.get("/agents")["items"])

        wait_until(back, 20, interval=0.5, message="drained agents are back")

    def wipe(self) -> None:
        """Removes all tasks with their jobs, so that each page finds the system as a new one."""
        for task in self.rest.get("/tasks?pageSize=1000")["items"]:
            self.rest.call("DELETE", f"/tasks/{task['taskId']}?force=true")

    def _loaded(self) -> int:
        return self.log_path.read_text(encoding="utf-8").count('"event":"rules_loaded"')


@pytest.fixture(scope="module")
def docs_farm(hosts: list[DockerHost]) -> Iterator[DocsFarm]:
    for host in hosts:
        for image in IMAGES:
            host.load_example_image(image)
    with DocsFarm(hosts) as farm:
        wait_until(lambda: len(farm.rest.get("/agents")["items"]) == len(hosts), 20, message="both agents are there")
        yield farm


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(self, page: str, farm: DocsFarm, folder: Path, shell: Shell) -> None:
        self.page = page
        self.farm = farm
        self.folder = folder
        self.shell = shell
        self.names = Names()
        self.counts = {"run": 0, "read": 0, "not run": 0, "shown": 0}

    def follow(self, block: Block) -> None:
        if block.not_run:
            self.counts["not run"] += 1
        elif block.file:
            self._put(block)
            self.counts["read"] += 1
        elif block.language in RUN:
            getattr(self, f"_{block.language}")(block)
            self.counts["run"] += 1
        elif block.language in ("json", "yaml", "toml"):
            self._read(block)
            self.counts["read"] += 1
        else:
            self.counts["shown"] += 1

    # Commands --------------------------------------------------------------------------------------------------
    def _console(self, block: Block) -> None:
        found = list(commands(block.text))
        assert found, f"{block.place}: no line begins with `$ `"
        for command, after in zip(found, [*found[1:], None], strict=True):
            self._one(block, command, asks_status=after is not None and after.text == "echo $?")

    def _one(self, block: Block, command: Command, *, asks_status: bool) -> None:
        deadline = time.monotonic() + PATIENT
        while True:
            status, came = self.shell.run(self._here(self.names.put_in(command.text)), PATIENT)
            came = self._back(came)
            if command.shown:
                good = self.names.fit(command.shown, came) or (
                    # Two streams of a container, each in its order.
                    command.text.startswith("easyq run")
                    and sorted(command.shown.splitlines()) == sorted(came.splitlines())
                )
            else:
                good = status == 0 or asks_status
            if good:
                return
            if not (command.shown and command.only_reads) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        shown = f"\nshown:\n{command.shown}" if command.shown else ""
        pytest.fail(f"{block.place}: {command.text}\nexit status {status}\ncame:\n{came}{shown}", pytrace=False)

    def _sh(self, block: Block) -> None:
        status, came = self.shell.run(f"set -e\n{self._here(self.names.put_in(block.text))}\nset +e\n", PATIENT)
        assert status == 0, f"{block.place}: exit status {status}\n{came}"

    def _python(self, block: Block) -> None:
        script = self.folder / f"snippet_{block.line}.py"
        script.write_text(self._here(self.names.put_in(block.text)), encoding="utf-8")
        status, came = self.shell.run(f"python3 {script.name}", PATIENT)
        assert status == 0, f"{block.place}: exit status {status}\n{came}"
        shown = printed(block.text)
        if shown and not self.names.fit(shown, came):
            pytest.fail(f"{block.place}\ncame:\n{came}\nshown:\n{shown}", pytrace=False)

    def _here(self, text: str) -> str:
        """With this system's ports for the usual ones."""
        for port, real in (("10000", self.farm.rest_port), ("10001", self.farm.grpc_port)):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{real}").replace(
                f"localhost:{port}", f"localhost:{real}"
            )
        return text.replace(".venv/bin/easyq", "easyq")

    def _back(self, text: str) -> str:
        # What curl says of a refusal here, and anywhere where `head` has read enough.
        text = re.sub(r"^curl: \(2[23]\).*\n", "", text, flags=re.MULTILINE)
        return text.replace(f":{self.farm.rest_port}", ":10000").replace(f":{self.farm.grpc_port}", ":10001")

    # Files -----------------------------------------------------------------------------------------------------
    def _put(self, block: Block) -> None:
        text = self._here(block.text)
        (self.folder / block.file).write_text(text, encoding="utf-8")
        if block.file == "easyq.toml":
            self.farm.add(text)

    def _read(self, block: Block) -> None:
        """Gives the block to what reads such files."""
        try:
            if block.language == "toml":
                self._read_toml(block)
                return
            document = json.loads(block.text) if block.language == "json" else yaml.safe_load(block.text)
        except ValueError as error:
            pytest.fail(f"{block.place}: {error}", pytrace=False)
        if block.reader:
            assert block.reader in ("spec", "text"), f"{block.place}: nobody reads it so"
        if block.reader == "spec" or (not block.reader and isinstance(document, dict) and "image" in document):
            answer = self.farm.rest.call("POST", "/tasks/docs?validateOnly=true", document)
            assert answer.status == 200, f"{block.place}: {answer.body.decode()}"
        elif not block.reader:
            assert isinstance(document, dict), f"{block.place}: say what reads it (parsed as: …)"
            assert "jobs" in document or "services" in document, f"{block.place}: say what reads it (parsed as: …)"
            if "jobs" in document:
                self._read_jobs(block)

    def _read_jobs(self, block: Block) -> None:
        (self.folder / "read.yaml").write_text(block.text, encoding="utf-8")
        status, came = self.shell.run("easyq apply --dry-run -f read.yaml", PATIENT)
        assert status == 0, f"{block.place}: {came}"

    def _read_toml(self, block: Block) -> None:
        document: dict[str, Any] = tomllib.loads(block.text)
        if block.reader == "rules":
            contract.check(document)
        elif block.reader in ("", "config"):
            path = self.folder / "read.toml"
            path.write_text(block.text, encoding="utf-8")
            file = ConfigFile({}, path)
            file.options(file.read())
        else:
            assert block.reader == "text", f"{block.place}: nobody reads TOML so"


def environment(farm: UpFarm, folder: Path) -> dict[str, str]:
    """A reader's: the programs of the virtual environment, this system, nothing of whoever runs the tests."""
    programs = folder / ".bin"
    programs.mkdir()
    curl = shutil.which("curl") or "curl"
    # A refusal is no success, and there is no terminal for a bar of progress.
    (programs / "curl").write_text(f'#!/bin/sh\nexec {curl} -sS --fail-with-body "$@"\n', encoding="ascii")
    (programs / "curl").chmod(0o755)
    path = (programs, Path(sys.executable).parent, *os.environ.get("PATH", os.defpath).split(os.pathsep), cache_bin())
    return {
        **clean_environment(),
        "PATH": os.pathsep.join(str(one) for one in path),
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "EASYQ_SERVER": farm.grpc_address,
        "LANG": "C.UTF-8",
    }


PAGES = {page: found for page in pages() if (found := blocks(page, (ROOT / page).read_text(encoding="utf-8")))}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, docs_farm: DocsFarm) -> None:
    todo = PAGES[page]
    if any("grpcurl" in block.text for block in todo if not block.not_run):
        require_program("grpcurl", "install Go, then `make servers` builds it")
    require_program("curl", "apt-get install curl")
    assert Path(EASYQ).exists()
    folder = process.make_folder("docs")
    for name in ("protos", "examples", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    try:
        with Shell(folder, environment(docs_farm, folder)) as shell:
            reader = Reader(page, docs_farm, folder, shell)
            for block in todo:
                reader.follow(block)
        print(page, reader.counts)
    finally:
        docs_farm.add("")
        docs_farm.wipe()
        docs_farm.mend()
        process.remove_folder(folder)
