"""Which Docker Engine the `docker` command of this user would talk to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STANDARD = "unix:///var/run/docker.sock"


def default_docker_host(environ: Mapping[str, str], home: Path) -> str:
    """DOCKER_HOST, else the context's (DOCKER_CONTEXT, or the current one of the user's Docker config), else
    the standard socket. A context that can't be read counts as none."""
    if host := environ.get("DOCKER_HOST"):
        return host
    folder = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    context = environ.get("DOCKER_CONTEXT") or _json(folder / "config.json").get("currentContext")
    if not isinstance(context, str) or context in {"", "default"}:
        return STANDARD
    name = hashlib.sha256(context.encode()).hexdigest()
    meta = _json(folder / "contexts" / "meta" / name / "meta.json")
    host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
    return host if isinstance(host, str) and host else STANDARD


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
