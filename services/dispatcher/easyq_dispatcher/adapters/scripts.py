"""The Lua scripts of the index, sent whole once and named by their hash from then on."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import redis.asyncio
from redis.exceptions import NoScriptError

_FOLDER = resources.files(__package__) / "lua"


# What stands between `common.lua` and a script: no more than it uses, since every call runs through all of it.
_PARTS = {"settle": ("heads",), "refill": ("heads",)}


class Script:
    """One script: `common.lua`, what it shares with some others, then the file of its own."""

    def __init__(self, name: str) -> None:
        files = ("common", *_PARTS.get(name, ()), name)
        parts = [(_FOLDER / f"{file}.lua").read_text(encoding="utf-8") for file in files]
        self._text = "".join(parts)
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: redis.asyncio.Redis, key: str, arguments: list[str]) -> Any:
        """Runs it with one key. A server that does not know it (new, or emptied of scripts) is sent the text."""
        try:
            return await client.evalsha(self._sha, 1, key, *arguments)
        except NoScriptError:
            return await client.eval(self._text, 1, key, *arguments)
