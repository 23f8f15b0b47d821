"""Lints protos/ with buf, and compares them with those of the last tag: no change may break a client."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).with_name("buf")
GOOGLE = (
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
)


def buf(*arguments: str | Path) -> bool:
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0


def add_google(third_party: Path) -> None:
    """Copies Google's public protos out of the installed wheel, since buf has to do without its registry."""
    wheel = Path(sysconfig.get_path("purelib"))
    for name in GOOGLE:
        target = third_party / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel / name, target)


def last_tag() -> str | None:
    command = ["git", "describe", "--tags", "--abbrev=0", "HEAD"]
    try:
        found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def unpack(tag: str, folder: Path) -> bool:
    """Lays the protos of `tag` in `folder`; False where that tag has none."""
    command = ["git", "archive", "--format=tar", tag, "buf.yaml", "protos"]
    archive = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    if archive.returncode != 0:
        return False
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    add_google(folder / "protos/third_party")
    return True


def unbroken() -> bool:
    tag = last_tag()
    if tag is None:
        print("buf breaking: no tag yet, nothing to compare with")
        return True
    with tempfile.TemporaryDirectory(prefix="easyq-buf-") as scratch:
        if not unpack(tag, Path(scratch)):
            print(f"buf breaking: {tag} has no protos")
            return True
        print(f"buf breaking: against {tag}")
        return buf("breaking", "--against", scratch)


def main() -> int:
    add_google(ROOT / "protos/third_party")
    linted = buf("lint")
    kept = unbroken()
    print(f"buf: {'ok' if linted and kept else 'failed'}")
    return 0 if linted and kept else 1


if __name__ == "__main__":
    sys.exit(main())
