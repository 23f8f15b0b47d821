"""A tiny image made of the system's static busybox, so that tests need no registry and no internet."""

import functools
import io
import subprocess
import tarfile
from pathlib import Path

from tests.support.missing import find_program, missing


def busybox_binary() -> Path:
    how = "apt-get install busybox-static"
    found = find_program("busybox")
    if found is None:
        missing("busybox", how)
    # A dynamically linked one can't run in an image of nothing else.
    if b"/ld-linux" in Path(found).read_bytes() or b"/ld-musl" in Path(found).read_bytes():
        missing("a static busybox", how)
    return Path(found)


@functools.cache
def example_tar() -> bytes:
    """The root file system: /bin/busybox, a link for each of its applets, /tmp, /etc/passwd."""
    binary = busybox_binary()
    listed = subprocess.run([binary, "--list-full"], check=True, capture_output=True, text=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("sbin", 0o755), ("usr", 0o755), ("usr/bin", 0o755)):
            _add_folder(tar, folder, mode)
        for folder, mode in (("usr/sbin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            _add_folder(tar, folder, mode)
        _add_file(tar, "bin/busybox", binary.read_bytes(), 0o755)
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n", 0o644)
        _add_file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        for applet in sorted(set(listed.split()) - {"bin/busybox"}):
            entry = tarfile.TarInfo(applet)
            entry.type = tarfile.SYMTYPE
            entry.linkname = "/bin/busybox"
            tar.addfile(entry)
    return buffer.getvalue()


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    entry.mode = mode
    tar.addfile(entry)


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))
