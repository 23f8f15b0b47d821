"""The snippets of the documentation: what they are, how a test runs them, and when what comes is what a page shows.

A page's blocks run in order in one shell. What can't be run says why in a comment right above the block:

    <!-- not run: needs … -->         what is not here: the internet, another machine, systemd
    <!-- not run: would … -->         what the other pages would suffer from: it ends the system, …
    <!-- not run: run by tests/… -->  another test runs it; the first line of a page may say that of all its blocks
    <!-- file: jobs.yaml -->          the block is written to that file in the page's folder, for what comes after it
    <!-- parsed as: NAME -->          what reads it; without that a job's spec, or what its keys say
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Blocks in these are run; in the next ones read by what reads such files; in the last ones looked at by people alone.
RUN = ("console", "sh", "python")
READ = ("json", "yaml", "toml")
SHOWN = ("", "text", "ini", "http", "go", "js", "proto", "diff")
READERS = ("spec", "text", "rules", "config")

_FENCE = re.compile(r"^(?P<indent>[ ]*)(?P<fence>`{3,}|~{3,})(?P<language>[\w+-]*)[^`]*$")
_COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")
_NOT_RUN = re.compile(r"^not run: (?P<why>needs .{3,}|would .{3,}|run by (?P<test>tests/\S+\.py))$")
_FILE = re.compile(r"^file: (?P<name>[\w.-]+)$")
_PARSED = re.compile(rf"^parsed as: (?P<reader>{'|'.join(READERS)})$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. `line` is that of its fence, from 1. At most one of `not_run`, `file`, `reader` is set."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    file: str = ""
    reader: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md and each page of docs/, by their paths from the repository's root."""
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page. ValueError where a language or a comment above a block is none that is known."""
    lines = text.splitlines()
    of_all = _COMMENT.match(lines[0]) if lines else None
    elsewhere = _NOT_RUN.match(of_all[1]) if of_all else None
    found: list[Block] = []
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == opening["fence"])
        indent = len(opening["indent"])
        body = "".join(f"{line[indent:]}\n" for line in lines[number + 1 : end])
        told = _directive(page, lines, number)
        if elsewhere and not told:
            told = {"not_run": elsewhere["why"]}
        language = opening["language"]
        if language not in (*RUN, *READ, *SHOWN):
            raise ValueError(f"{page}:{number + 1}: no test knows what to do with a block of {language!r}")
        found.append(Block(page=page, line=number + 1, language=language, text=body, **told))
        number = end + 1
    return found


def _directive(page: str, lines: list[str], fence: int) -> dict[str, str]:
    """What the comment above the fence says, as fields of Block; nothing where there is none."""
    above = fence - 1
    while above >= 0 and not lines[above].strip():
        above -= 1
    comment = _COMMENT.match(lines[above]) if above >= 0 else None
    if comment is None or (above == 0 and _NOT_RUN.match(comment[1])):
        return {}
    if told := _NOT_RUN.match(comment[1]):
        if told["test"] and not (ROOT / told["test"]).is_file():
            raise ValueError(f"{page}:{above + 1}: there is no {told['test']}")
        return {"not_run": told["why"]}
    if told := _FILE.match(comment[1]):
        return {"file": told["name"]}
    if told := _PARSED.match(comment[1]):
        return {"reader": told["reader"]}
    raise ValueError(f"{page}:{above + 1}: {comment[1]!r} is no form that tests/support/snippets.py knows")


# ------------------------------------------------------------------------------------------------------- commands
@dataclass(frozen=True, kw_only=True)
class Command:
    """A command after `$ `, and what is shown below it; nothing shown: anything may come."""

    text: str
    shown: str

    @property
    def only_reads(self) -> bool:
        """Whether it may be asked again until it says what is shown, as a reader would who was too quick."""
        return bool(_READS.match(self.text)) and not _WRITES.search(self.text)


_READS = re.compile(
    r"^(?:timeout \d+ )?(?:curl"
    r"|easyq (?:get|ps|jobs|logs|explain|tasks|queues|hosts|search|schedule|wait|stats|deliveries|errors)\b"
    r"(?! (?:retry|discard|cordon|uncordon|drain|declare-dead))|grpcurl\b.*/(?:Get|List|Read|Watch|Follow)\w*$)"
)
_WRITES = re.compile(r"^(?:timeout \d+ )?curl.*\s(?:-X|-d|--data|--json|-F|-T)", re.DOTALL)


def commands(block: str) -> Iterator[Command]:
    """The commands of a block that shows a terminal. One goes on while a quote or a here-document is open."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        count = next(count for count in range(1, len(lines) + 1) if _is_whole(lines[:count]))
        yield Command(text="\n".join(lines[:count]), shown="\n".join(lines[count:]).strip())


def _is_whole(lines: list[str]) -> bool:
    if here := re.search(r"<<-?\s*['\"]?(\w+)['\"]?", lines[0]):
        return here[1] in (line.strip() for line in lines[1:])
    if lines[-1].endswith("\\"):
        return False
    try:
        shlex.split("\n".join(lines))
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------------------------------- what is shown for what
_WORDS = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<uuid>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
    r"|(?P<job>\b[0-9a-f]{24}\b)"
    r"|(?P<position>\b[0-9a-f]{12}-\d+(?:\.t-\d+)?\b)"
    r"|(?P<rest>…)"
    r"|(?P<space>\s+)"
)
_FORMS = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)",
    "uuid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "job": r"[0-9a-f]{24}",
    "position": r"[0-9a-f]{12}-\d+(?:\.t-\d+)?",
}


@dataclass
class Names:
    """Which id of the running system stands for which on a page."""

    real: dict[str, str] = field(default_factory=dict)

    def put_in(self, text: str) -> str:
        """`text` of a page with the ids that are known by now."""
        for shown, real in self.real.items():
            text = text.replace(shown, real)
        return text

    def fit(self, shown: str, came: str) -> bool:
        """Whether `came` is what a page shows; ids that are met here for the first time are remembered.

        Ids and times are any of their kind, an id the same one wherever it stands. `…` is any text in a line, alone in
        a line any lines. Space at both ends and its amount between columns don't count, nor do
        empty lines; in JSON, no space does.
        """
        groups: dict[str, str] = {}
        made = re.compile(self._pattern(shown.strip(), groups), re.DOTALL)
        found = made.fullmatch("".join(f"{line.strip()}\n" for line in came.splitlines() if line.strip()))
        if found is None:
            return False
        self.real |= {word: found[group] for word, group in groups.items()}
        return True

    def _pattern(self, shown: str, groups: dict[str, str]) -> str:
        if shown.startswith(("{", "[")):
            return self._words(shown, groups, rest=r".*", space=r"\s*") + r"\n"
        parts = []
        for line in filter(str.strip, shown.splitlines()):
            if line.strip() == "…":
                parts.append(r"(?:[^\n]*\n)*?")
            else:
                parts.append(self._words(line.strip(), groups, rest=r"[^\n]*", space=r"[ \t]+") + r"\n")
        return "".join(parts)

    def _words(self, text: str, groups: dict[str, str], *, rest: str, space: str) -> str:
        made, at = "", 0
        for match in _WORDS.finditer(text):
            made += re.escape(text[at : match.start()])
            at = match.end()
            kind, word = str(match.lastgroup), match[0]
            if kind in ("rest", "space"):
                made += rest if kind == "rest" else space
            elif kind == "time":
                made += _FORMS[kind]
            elif word in self.real:
                made += re.escape(self.real[word])
            elif word in groups:
                made += f"(?P={groups[word]})"
            else:
                groups[word] = f"id{len(groups)}"
                made += f"(?P<{groups[word]}>{_FORMS[kind]})"
        return made + re.escape(text[at:])


def printed(snippet: str) -> str:
    """What a Python snippet says that it prints: the comment at the end of each line that prints."""
    return "\n".join(re.findall(r"^.*\bprint\(.*\)\s+# (.*)$", snippet, re.MULTILINE))
