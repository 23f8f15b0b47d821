"""Which server a command talks to: options, environment, and contexts, which are names for servers in a file.

The file is `easyq/contexts.toml` below XDG_CONFIG_HOME (~/.config).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from easyq.address import DEFAULT_SERVER, checked_address

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ContextError(Exception):
    """A server or a context that can't be used; the message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contexts:
    """What the file holds: servers by name, and which one is used unless another is asked for (empty: none)."""

    servers: Mapping[str, str]
    current: str = ""

    def server(self, name: str) -> str:
        """The server of a context. Raises ContextError."""
        try:
            return self.servers[name]
        except KeyError:
            known = ", ".join(sorted(self.servers)) or "none yet"
            raise ContextError(
                f"there is no context {name!r} ({known}); `easyq context set {name} HOST:PORT` makes it"
            ) from None

    def with_server(self, name: str, server: str) -> Contexts:
        return replace(self, servers={**self.servers, name: server})

    def without(self, name: str) -> Contexts:
        left = {one: server for one, server in self.servers.items() if one != name}
        return Contexts(servers=left, current="" if self.current == name else self.current)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A server, and where the choice came from, in words."""

    server: str
    source: str


def choose(server: str | None, context: str | None, environ: Mapping[str, str], path: Path) -> Choice:
    """The first of: `--server`, `--context`, EASYQ_SERVER, EASYQ_CONTEXT, the file's current context, the default.

    Raises ContextError.
    """
    # An empty one comes from a variable that is not set; the default would be another farm than the one that is meant.
    if server is not None and context is not None:
        raise ContextError("--server and --context exclude each other; leave one out")
    if server is not None:
        return Choice(server=checked_server(server), source="--server")
    if context is not None:
        return Choice(server=checked_server(load(path).server(context)), source=f"context {context}")
    if found := environ.get("EASYQ_SERVER"):
        return Choice(server=checked_server(found), source="EASYQ_SERVER")
    if found := environ.get("EASYQ_CONTEXT"):
        return Choice(server=checked_server(load(path).server(found)), source=f"context {found} (EASYQ_CONTEXT)")
    contexts = load(path)
    if contexts.current:
        return Choice(server=checked_server(contexts.server(contexts.current)), source=f"context {contexts.current}")
    return Choice(server=DEFAULT_SERVER, source="the default")


def checked_server(text: str) -> str:
    """`host:port` (or `unix:/path`); the port may be left out. Raises ContextError."""
    try:
        return checked_address(text)
    except ValueError as error:
        raise ContextError(str(error)) from error


def checked_name(text: str) -> str:
    """The name of a context. Raises ContextError."""
    if not _NAME.fullmatch(text):
        raise ContextError(f"{text!r} can't name a context: letters, digits, `.`, `_` and `-`, at most 64")
    return text


def file_path(environ: Mapping[str, str]) -> Path:
    """Where contexts are kept."""
    base = environ.get("XDG_CONFIG_HOME") or ""
    # The specification has relative paths ignored.
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".config"
    return folder / "easyq" / "contexts.toml"


def load(path: Path) -> Contexts:
    """What the file holds; nothing where there is none. Raises ContextError."""
    import tomllib

    try:
        tree = tomllib.loads(path.read_bytes().decode())
        servers = {str(name): str(entry["server"]) for name, entry in tree.get("contexts", {}).items()}
        current = tree.get("current", "")
    except FileNotFoundError:
        return Contexts(servers={})
    except OSError as error:
        raise ContextError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContextError(f"{path} is not a file of contexts ({error}); mend or remove it") from error
    return Contexts(servers=servers, current=current if isinstance(current, str) else "")


def save(path: Path, contexts: Contexts) -> None:
    """Writes the file, whole or not at all. Raises ContextError."""
    lines = [f"current = {_quoted(contexts.current)}"] if contexts.current else []
    for name, server in sorted(contexts.servers.items()):
        lines += ["", f"[contexts.{_quoted(name)}]", f"server = {_quoted(server)}"]
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise ContextError(f"{path} can't be written: {error.strerror}") from error


def _quoted(text: str) -> str:
    # A JSON string is one of TOML's as well, but for DEL, which names and addresses don't have.
    return json.dumps(text, ensure_ascii=False)
