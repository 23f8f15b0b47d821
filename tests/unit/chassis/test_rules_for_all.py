"""A file of rules in which anything is wrong is refused by every service, whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from easyq_chassis.clock import SystemClock
from easyq_chassis.rules_file.watch import RulesFile
from easyq_dispatcher.config import load
from easyq_dispatcher.usecases.rulebook import Rulebook
from easyq_gateway.default_rules import parser as default_parser
from easyq_gateway.domain.defaults import Defaults
from easyq_store.domain.retention import Keep
from easyq_store.retention_rules import parser as retention_parser
from easyq_supervisor.adapters.config_file import ConfigFile
from easyq_supervisor.domain.hosts import DockerHost
from easyq_supervisor.reload import Reloader

#: One table of each kind, each of which a change of the number changes.
TABLES = {
    "pool": '[[pool]]\nname = "p"\npattern = "p"\nmax_running = {}\n',
    "limit": '[[limit]]\npattern = "l"\nmax_running = {}\n',
    "weight": '[[weight]]\npattern = "w"\nweight = {}\n',
    "default": '[[default]]\npattern = "d"\nretries = {}\n',
    "retention": '[[retention]]\npattern = "r"\nfailed_count = {}\n',
}


def file_of(number: int) -> str:
    return "".join(table.format(number) for table in TABLES.values())


class Reader(Protocol):
    """One that reads the file: what holds for it, and what it says of a file that it refused."""

    def reload(self) -> None: ...

    def rules(self) -> object: ...

    def problem(self) -> str: ...


class OfParser:
    """The gateway, and the store."""

    def __init__(self, path: Path, parse: Callable[[Any], object]) -> None:
        self.taken: list[object] = []
        self.file = RulesFile(str(path), parse, self.taken.append)
        self.file.load()

    def reload(self) -> None:
        self.file.reload()

    def rules(self) -> object:
        return self.taken[-1]

    def problem(self) -> str:
        return self.file.problem


class OfDispatcher:
    def __init__(self, path: Path) -> None:
        self.book = Rulebook(build=load([]).matching, path=str(path), clock=SystemClock())

    def reload(self) -> None:
        self.book.file.reload()
        self.book.turn_page()

    def rules(self) -> object:
        return self.book.matching, self.book.version

    def problem(self) -> str:
        return self.book.problem


class OfSupervisor:
    """`easyq up`, whose config file has the same tables."""

    def __init__(self, path: Path) -> None:
        source = ConfigFile({}, path)
        options = source.options(source.read())
        self.written: list[str] = [""]
        self.said: list[str] = []
        self.refused = ""
        hosts = [DockerHost(url="unix:///s", pools=("p", "default"))]
        self.reloader = Reloader(source, running=options, hosts=hosts, book=self, say=self.said.append)

    def write_rules(self, text: str) -> None:
        self.written.append(text)

    def note_refused(self, words: str) -> None:
        self.refused = words

    def reload(self) -> None:
        self.said.clear()
        self.reloader.read_again()

    def rules(self) -> object:
        return self.written[-1]

    def problem(self) -> str:
        assert any(line.startswith("REFUSED") for line in self.said) == bool(self.refused)
        return self.refused


READERS: dict[str, Callable[[Path], Reader]] = {
    "gateway": lambda path: OfParser(path, default_parser(Defaults())),
    "store": lambda path: OfParser(path, retention_parser(Keep())),
    "dispatcher": OfDispatcher,
    "supervisor": OfSupervisor,
}

WRONG = {
    **{kind: (file_of(2).replace(table.format(2), table.format(-1)), f"{kind}[0].") for kind, table in TABLES.items()},
    "field": (file_of(2) + "max_running = 1\n", "retention[0].max_running"),
    "regex": (file_of(2).replace('pattern = "r"', 'pattern = "("'), "retention[0].pattern"),
    "pattern": (file_of(2).replace('pattern = "d"', 'pattern = "(?=d)"'), "default[0].pattern '(?=d)' looks around"),
    "together": (file_of(2) + '[[default]]\npattern = "e"\nbackoffMin = 9\nbackoffMax = 1\n', "default[1].backoffMax"),
    "twice": (file_of(2) + TABLES["retention"].format(3), "retention[1].pattern"),
    "table": (file_of(2) + "[[pools]]\n", "'pools'"),
    "toml": (file_of(2) + "[[pool\n", ""),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("who", READERS)
def test_a_file_with_one_wrong_table_changes_nothing_for_anybody(who: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(file_of(1))
    reader = READERS[who](path)
    before = reader.rules()
    text, where = WRONG[wrong]
    path.write_text(text)
    reader.reload()
    assert reader.rules() == before
    assert where in reader.problem()
    assert str(path) in reader.problem()
    assert reader.problem().endswith("The rules before it stay in force.")
    path.write_text(file_of(2))
    reader.reload()
    assert reader.rules() != before
    assert reader.problem() == ""


@pytest.mark.parametrize("wrong", WRONG)
def test_all_services_say_the_same_of_it(wrong: str, tmp_path: Path) -> None:
    """So that it stands once in /status, whoever tells it."""
    path = tmp_path / "rules.toml"
    path.write_text(file_of(1))
    readers = [make(path) for name, make in READERS.items() if name != "supervisor"]
    path.write_text(WRONG[wrong][0])
    for reader in readers:
        reader.reload()
    assert len({reader.problem() for reader in readers}) == 1
