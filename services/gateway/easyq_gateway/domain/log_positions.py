"""How far output was read, as one word that readers hand back: `<execution>:<stdout>:<stderr>`, at its end `…:end`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(
    r"(?P<execution>[A-Za-z0-9][A-Za-z0-9._-]{0,127}):(?P<stdout>[0-9]{1,18}):(?P<stderr>[0-9]{1,18})(?P<end>:end)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Next byte of each stream of an execution. `ended`: its end was told too."""

    execution_id: str
    stdout_offset: int
    stderr_offset: int
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.execution_id}:{self.stdout_offset}:{self.stderr_offset}{':end' if self.ended else ''}"


def parse_position(word: str) -> Position:
    """Reads what `str` of a position gives. Raises `ValueError`."""
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError("must be <executionId>:<bytes of stdout>:<bytes of stderr>, as a reader was told")
    return Position(
        execution_id=match["execution"],
        stdout_offset=int(match["stdout"]),
        stderr_offset=int(match["stderr"]),
        ended=match["end"] is not None,
    )
