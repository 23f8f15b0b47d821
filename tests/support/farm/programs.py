"""What containers of tests do, in busybox's shell, and what must come of it to the byte."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.farm.witness import Witness
from tests.support.hosts import EXAMPLE_IMAGE

# Numbers of seven digits: each line is eight bytes and says where in the stream it stands, so that bytes that were
# lost, doubled or swapped can't go unseen.
_FIRST = 1_000_000
_LAST = 9_999_999


def counted(size: int, start: int = 0) -> bytes:
    """The first `size` bytes of `seq FIRST+start …`."""
    first = _FIRST + start
    return "".join(f"{number}\n" for number in range(first, first + size // 8 + 1)).encode()[:size]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A shell script with its exit code and its output."""

    script: str
    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    witness: Witness | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> dict[str, Any]:
        mounts = {"mounts": self.witness.mounts} if self.witness else {}
        return shell(self.script, **mounts, **self.more)

    @property
    def state(self) -> str:
        return "FAILED" if self.exit_code else "SUCCEEDED"


def shell(script: str, **more: Any) -> dict[str, Any]:
    """The spec of a job that runs a shell script in the example image."""
    return {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], **more}


def chatty(
    number: int,
    *,
    stdout: int,
    stderr: int,
    exit_code: int = 0,
    parts: int = 1,
    pause: float = 0.0,
    witness: Witness | None = None,
    **more: Any,
) -> Program:
    """Writes `stdout` and `stderr` bytes that depend on `number`, in `parts` with `pause` seconds between them."""
    seed = (number * 1009) % 1_000_000
    lines = [Witness.START] if witness else []
    for part in range(parts):
        if part and pause:
            lines.append(f"sleep {pause}")
        lines += [_write(seed, stdout, part, parts, ""), _write(seed + 500_000, stderr, part, parts, " >&2")]
    lines += [Witness.END] if witness else []
    lines.append(f"exit {exit_code}")
    return Program(
        script="; ".join(line for line in lines if line),
        exit_code=exit_code,
        stdout=counted(stdout, seed),
        stderr=counted(stderr, seed + 500_000),
        witness=witness,
        more=more,
    )


def _write(seed: int, size: int, part: int, parts: int, redirection: str) -> str:
    lines = size // 8 + 1
    begin, end = lines * part // parts, lines * (part + 1) // parts
    first, bytes_now = _FIRST + seed + begin, (min(size, end * 8) if part < parts - 1 else size) - begin * 8
    if bytes_now <= 0:
        return ""
    # `seq` writes line by line; head makes few writes of many.
    return f"seq {first} {min(_LAST, first + bytes_now // 8 + 1)} | head -c {bytes_now}{redirection}"
