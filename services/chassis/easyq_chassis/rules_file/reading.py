"""Reading a file of rules or settings: only what is a regular file, of bounded size, and text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MOST_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_text(path: Path) -> str:
    """The file's text. Raises OSError; and ValueError, in words that follow on its name, for what can't be one.

    It never waits, whatever stands there: a FIFO would have its reader wait for a writer, for ever.
    """
    # Looked at before it is opened, which may have effects of its own, and after, since it may have been replaced.
    _require_regular(path.stat())
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(handle, "rb") as file:  # noqa: PTH123 - Path.open takes no such flags
        _require_regular(os.fstat(handle))
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: it is not UTF-8 (byte 0x{data[error.start]:02x})") from error
    if "\0" in text:
        raise ValueError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: it has a NUL byte, and is no text")
    return text


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"it is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a regular file")
