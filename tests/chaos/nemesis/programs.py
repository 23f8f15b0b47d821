"""What the containers of the load do, and what must come of it to the byte."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from tests.support.farm.programs import chatty, counted
from tests.support.farm.witness import TARGET

# The machine's uptime in hundredths of a second is the one clock that all containers share.
_TRACE = (
    'read up rest < /proc/uptime; echo "{word} $EASYQ_EXECUTION_ID $EASYQ_ATTEMPT $EASYQ_FENCE $up" >> {target}/trace'
)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Writes what `number` says, takes `seconds` more, exits: with `bad_code` up to attempt `bad_until`, then 0."""

    number: int
    stdout: int = 0
    stderr: int = 0
    parts: int = 1
    pause: float = 0.0
    seconds: float = 0.0
    bad_until: int = 0
    bad_code: int = 0

    @property
    def script(self) -> str:
        output = chatty(self.number, stdout=self.stdout, stderr=self.stderr, parts=self.parts, pause=self.pause).script
        lines = [
            _TRACE.format(word="start", target=TARGET),
            f"({output})",
            *([f"sleep {self.seconds:g}"] if self.seconds else []),
            _TRACE.format(word="end", target=TARGET),
            f'[ "$EASYQ_ATTEMPT" -gt {self.bad_until} ] || exit {self.bad_code}',
        ]
        return "; ".join(lines)

    def exit_code(self, attempt: int) -> int:
        """Of one attempt, from 1."""
        return self.bad_code if attempt <= self.bad_until else 0

    def output(self, stream: str) -> bytes:
        """All that an attempt writes to `stdout` or `stderr`: every one the same."""
        seed = (self.number * 1009) % 1_000_000
        return _counted(self.stdout, seed) if stream == "stdout" else _counted(self.stderr, seed + 500_000)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        return cls(**data)


# Beyond the last line that any of the load writes: the highest start, and the most lines of one stream.
_LINES = 1_700_000


def _counted(size: int, start: int) -> bytes:
    """As `counted`, for the thousands of outputs that a long run has to compare: a piece of one that is made once."""
    return _all()[start * 8 : start * 8 + size]


@cache
def _all() -> bytes:
    return counted(_LINES * 8)
