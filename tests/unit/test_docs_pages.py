"""The generators of docs/reference: what stands in a cell, and when a page is stale."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.snippets import ROOT


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts as modules, by their names."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = ("docs_pages", "gen_api_docs", "gen_cli_docs")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: importlib.import_module(name) for name in names}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("two\nlines", "two lines"),
        ("one\n\ntwo", "one<br>two"),
        ("a | b", "a \\| b"),
        ("`name|uid`", "<code>name&#124;uid</code>"),
        ("`[a|b]` or `plain`", "<code>&#91;a&#124;b&#93;</code> or `plain`"),
        ("`` a`b|c ``", "<code>a&#96;b&#124;c</code>"),
    ],
)
def test_cells_are_one_line_without_bare_pipes(scripts: dict[str, ModuleType], words: str, shown: str) -> None:
    assert scripts["docs_pages"].cell(words) == shown


def test_words_of_comments_are_no_markup(scripts: dict[str, ModuleType]) -> None:
    assert scripts["docs_pages"].text("a*b <c> [d](e) `*<`") == "a\\*b &lt;c> \\[d\\](e) `*<`"


@pytest.mark.parametrize("name", ["gen_api_docs", "gen_cli_docs"])
def test_a_stale_page_is_found_and_written(
    scripts: dict[str, ModuleType],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = scripts["docs_pages"]
    monkeypatch.setattr(pages, "PAGES", tmp_path)

    def main(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return int(pages.main(scripts[name].pages))

    assert main("--check") == 1
    assert "stale" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main() == 0
    assert main("--check") == 0
    page = next(tmp_path.iterdir())
    page.write_text(page.read_text(encoding="utf-8") + "x", encoding="utf-8")
    assert main("--check") == 1


def test_a_reason_without_advice_is_refused(scripts: dict[str, ModuleType]) -> None:
    generator = scripts["gen_api_docs"]
    enum = generator.job_pb2.Failure.DESCRIPTOR.enum_types_by_name["Reason"]
    with pytest.raises(SystemExit, match="TIMEOUT"):
        generator._advised(enum, {value.name: "" for value in enum.values if value.number and value.name != "TIMEOUT"})
