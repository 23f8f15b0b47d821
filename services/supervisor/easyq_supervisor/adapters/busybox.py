"""A tiny root file system out of the system's static busybox."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
from pathlib import Path

from easyq_supervisor.adapters.packages import find_program

_FOLDERS = {"bin": 0o755, "etc": 0o755, "root": 0o700, "sbin": 0o755, "tmp": 0o1777, "usr": 0o755}
_MORE_FOLDERS = {"usr/bin": 0o755, "usr/sbin": 0o755}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
_ELF_64 = b"\x7fELF\x02\x01"
_PT_INTERP = 3


def static_busybox() -> Path | None:
    """The system's busybox, if there is one that needs no library: no other runs in an image of nothing else."""
    found = find_program("busybox")
    if found is None:
        return None
    path = Path(found)
    return path if _is_static(path.read_bytes()) else None


def root_of(busybox: Path) -> bytes:
    """A tar with /bin/busybox, a link for each of its applets, and what programs expect of a root."""
    listed = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True, timeout=10).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in {**_FOLDERS, **_MORE_FOLDERS}.items():
            _add(tar, name, mode, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, content=busybox.read_bytes())
        for name, content in _FILES.items():
            _add(tar, name, 0o644, content=content)
        for applet in sorted(set(listed.split()) - {"bin/busybox"}):
            if applet.rpartition("/")[0] in {"bin", "sbin", "usr/bin", "usr/sbin"}:
                _add(tar, applet, 0o777, kind=tarfile.SYMTYPE, target="/bin/busybox")
    return buffer.getvalue()


def _is_static(program: bytes) -> bool:
    """Whether a 64-bit little-endian ELF file names no interpreter (a dynamic linker)."""
    if not program.startswith(_ELF_64):
        return False
    (start,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    kinds = (struct.unpack_from("<I", program, start + number * size)[0] for number in range(count))
    return _PT_INTERP not in kinds


def _add(
    tar: tarfile.TarFile, name: str, mode: int, *, kind: bytes = tarfile.REGTYPE, content: bytes = b"", target: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
    tar.addfile(entry, io.BytesIO(content))
