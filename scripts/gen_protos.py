"""Generates the Python stubs from protos/, or with --check fails where the committed ones are stale.

The comments of the public protos go into a data file beside them, since stubs have none: the API's documentation is
made of them.

Everything is generated with the oldest grpcio-tools that we support, in an environment of its own that is
kept in the user's cache: stubs run with the protobuf and grpcio that they were generated with and later ones,
never with older.
"""

from __future__ import annotations

import argparse
import fcntl
import filecmp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from proto_comments import comments_of

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = PROTOS / "third_party"
CLIENT = ROOT / "clients/python"
INTERNAL = PROTOS / "gen"

# What the stubs demand at run time comes from grpcio-tools: grpcio 1.72.1 and protobuf 6.30, the lower bounds
# of clients/python/pyproject.toml. The `protobuf` below is only what the generators themselves run on.
TOOLS = (
    "googleapis-common-protos==1.66.0",
    "grpcio==1.72.1",
    "grpcio-tools==1.72.1",
    "mypy-protobuf==5.1.0",
    "protobuf==6.33.1",
    "setuptools==80.9.0",
    "types-protobuf==6.32.1.20250918",
    "typing_extensions==4.14.1",
)

# Folders whose whole content is generated, relative to the repository.
COMMENTS = "services/gateway/easyq_gateway/openapi/data"
GENERATED = ("clients/python/easyq/v1", "clients/python/easyq/_vendor", "protos/gen/easyq_internal", COMMENTS)

SERVICE = re.compile(r"^service\s+\w+", re.MULTILINE)
VENDORED_IMPORT = re.compile(r"^(\s*)from buf\.validate import", re.MULTILINE)
VENDORED_MODULE = re.compile(r"\bbuf\.validate\.validate_pb2\b")


def tool_python() -> Path:
    """The interpreter of the generators' environment, made on first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "easyq"
    key = hashlib.sha256("\n".join((*TOOLS, sys.version)).encode()).hexdigest()[:12]
    home = cache / f"protoc-{key}"
    python, done = home / "bin/python", home / "done"
    if done.exists():
        return python
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "protoc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            print(f"making the environment of the generators in {home}", file=sys.stderr)
            venv.create(home, with_pip=True, clear=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, *TOOLS], check=True)
            done.touch()
    return python


def site_packages(python: Path) -> Path:
    return next((python.parent.parent / "lib").glob("python3*/site-packages"))


def protoc(python: Path, out: Path, root: Path, files: list[Path]) -> None:
    """Runs protoc on `files` (below `root`), with every generator, into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    site = site_packages(python)
    includes = [root, THIRD_PARTY, site, site / "grpc_tools/_proto"]
    command = [
        str(python),
        "-m",
        "grpc_tools.protoc",
        *(f"--proto_path={include}" for include in includes),
        f"--plugin=protoc-gen-mypy={python.parent / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={python.parent / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--mypy_out=quiet:{out}",
    ]
    services = [file for file in files if SERVICE.search(file.read_text(encoding="utf-8"))]
    plain = [file for file in files if file not in services]
    for group, extra in (
        (plain, []),
        (services, [f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]),
    ):
        if group:
            subprocess.run([*command, *extra, *(str(file.relative_to(root)) for file in group)], check=True)


def write_comments(python: Path, target: Path, files: list[Path]) -> None:
    """Writes the comments of `files` as JSON: full name → text."""
    target.parent.mkdir(parents=True, exist_ok=True)
    site = site_packages(python)
    with tempfile.NamedTemporaryFile(suffix=".binpb") as described:
        command = [
            str(python),
            "-m",
            "grpc_tools.protoc",
            *(f"--proto_path={include}" for include in (PROTOS, THIRD_PARTY, site, site / "grpc_tools/_proto")),
            "--include_source_info",
            f"--descriptor_set_out={described.name}",
        ]
        subprocess.run([*command, *(str(file.relative_to(PROTOS)) for file in files)], check=True)
        found = comments_of(Path(described.name).read_bytes())
    target.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def rewrite_vendored(folder: Path) -> None:
    """Points imports of `buf.validate` at our vendored copy, so that the client needs nobody else's."""
    for file in (*folder.rglob("*.py"), *folder.rglob("*.pyi")):
        text = file.read_text(encoding="utf-8")
        changed = VENDORED_IMPORT.sub(r"\1from easyq._vendor.buf.validate import", text)
        if file.suffix == ".pyi":
            changed = VENDORED_MODULE.sub("easyq._vendor.buf.validate.validate_pb2", changed)
        if changed != text:
            file.write_text(changed, encoding="utf-8")


def add_packages(folder: Path) -> None:
    """Makes every folder from `folder` down a package."""
    for directory in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        (directory / "__init__.py").touch()


def generate(out: Path) -> None:
    """Generates everything into `out`, laid as in the repository."""
    python = tool_python()
    public = sorted((PROTOS / "easyq").rglob("*.proto"))
    internal = sorted((PROTOS / "easyq_internal").rglob("*.proto"))
    client = out / "clients/python"
    protoc(python, client, PROTOS, public)
    vendor = client / "easyq/_vendor"
    protoc(python, vendor, THIRD_PARTY, [THIRD_PARTY / "buf/validate/validate.proto"])
    shutil.copyfile(THIRD_PARTY / "buf/validate/LICENSE", vendor / "buf/validate/LICENSE")
    protoc(python, out / "protos/gen", PROTOS, internal)
    write_comments(python, out / COMMENTS / "comments.json", public)
    (out / "protos/gen/easyq_internal").mkdir(parents=True, exist_ok=True)
    for folder in (client / "easyq/v1", vendor, out / "protos/gen/easyq_internal"):
        rewrite_vendored(folder)
        add_packages(folder)
    (out / "protos/gen/easyq_internal/py.typed").touch()


def relative_files(root: Path) -> set[Path]:
    """The files of the generated folders below `root`, byte code aside."""
    return {
        path.relative_to(root)
        for folder in GENERATED
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(fresh: Path) -> list[tuple[str, Path]]:
    """What would have to change in the repository: (verb, file)."""
    new, old = relative_files(fresh), relative_files(ROOT)
    found = [("remove", file) for file in old - new]
    found += [("add", file) for file in new - old]
    found += [("change", file) for file in new & old if not filecmp.cmp(fresh / file, ROOT / file, shallow=False)]
    return sorted(found, key=lambda item: item[1])


def apply(fresh: Path, changes: list[tuple[str, Path]]) -> None:
    for verb, file in changes:
        if verb == "remove":
            (ROOT / file).unlink()
            continue
        (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step: someone may be importing it right now.
        temporary = ROOT / file.with_name(f".{file.name}.new")
        shutil.copyfile(fresh / file, temporary)
        temporary.replace(ROOT / file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="easyq-protos-") as scratch:
        fresh = Path(scratch)
        try:
            generate(fresh)
        except subprocess.CalledProcessError as error:
            print(f"protos: {Path(error.cmd[0]).name} failed with status {error.returncode}", file=sys.stderr)
            return 1
        changes = differences(fresh)
        if not check:
            apply(fresh, changes)
    for verb, file in changes:
        print(f"{verb} {file}", file=sys.stderr)
    if check and changes:
        print("The generated code is stale: run `make proto` and commit what it changes.", file=sys.stderr)
        return 1
    print("protos: generated code is up to date" if check or not changes else f"protos: {len(changes)} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
