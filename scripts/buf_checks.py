"""Lints protos/ with buf, and compares them with those of the last tag: no change may break a client."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).with_name("buf")
THIRD_PARTY = ROOT / "protos/third_party"


def buf(*arguments: str | Path) -> bool:
    return subprocess.run([BUF, *arguments], cwd=ROOT, check=False).returncode == 0


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
    # Older tags have not brought Google's protos with them.
    shutil.copytree(THIRD_PARTY / "google", folder / "protos/third_party/google", dirs_exist_ok=True)
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
    linted = buf("lint")
    kept = unbroken()
    print(f"buf: {'ok' if linted and kept else 'failed'}")
    return 0 if linted and kept else 1


if __name__ == "__main__":
    sys.exit(main())
