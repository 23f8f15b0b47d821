"""What the generators of docs/reference share: text for Markdown, templates, and writing or checking pages.

The words of a page that are not generated stand in scripts/reference, with `{{name}}` where a generated part goes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

TEMPLATES = Path(__file__).parent / "reference"
PAGES = TEMPLATES.parent.parent / "docs" / "reference"

_CODE = re.compile(r"(``.*?``|`[^`]*`)")


def text(words: str) -> str:
    """Returns plain words as Markdown that shows them as they are; what stands in backquotes stays code."""
    return "".join(part if part.startswith("`") else _escaped(part) for part in _CODE.split(words))


def _escaped(words: str) -> str:
    return re.sub(r"([*\[\]])", r"\\\1", words).replace("<", "&lt;")


def code(words: str) -> str:
    """Returns words as code, whatever backquotes are in them."""
    return f"`` {words} ``" if "`" in words else f"`{words}`"


def cell(words: str) -> str:
    """Returns words, Markdown already, as a cell of a table: one line, no bare pipe.

    Readers of Markdown differ over pipes in code, but agree over HTML.
    """
    line = "<br>".join(" ".join(part.split()) for part in words.split("\n\n"))
    return "".join(
        _piped_code(part) if part.startswith("`") else part.replace("|", "\\|") for part in _CODE.split(line)
    )


def _piped_code(part: str) -> str:
    if "|" not in part:
        return part
    inner = part.removeprefix("`` ").removesuffix(" ``") if part.startswith("``") else part[1:-1]
    entities = re.sub("[^A-Za-z0-9 ]", lambda sign: f"&#{ord(sign[0])};", inner)
    return f"<code>{entities}</code>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of cells that are Markdown; empty where there are no rows."""
    lines = [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) + "\n" if lines else ""


def filled(name: str, parts: Mapping[str, str]) -> str:
    """Returns a template with its parts in their places. Raises `KeyError` for a place without a part."""
    words = (TEMPLATES / name).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]].strip("\n"), words)


def main(make: Callable[[], Mapping[str, str]]) -> int:
    """Writes the pages (by their names below docs/reference); with `--check` fails where one is stale."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, wanted in make().items():
        path = PAGES / name
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        stale.append(f"docs/reference/{name}")
        if not check:
            path.write_text(wanted, encoding="utf-8")
    if not check or not stale:
        return 0
    print(f"{', '.join(stale)}: stale; run `make docs-reference` and commit it", file=sys.stderr)
    return 1
