"""A reader of Server-Sent Events, as plain as curl: what is between two empty lines is an event."""

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Told:
    """One event. `kind` is what stands after `event:`; `data` its JSON."""

    id: str
    kind: str
    data: Any


class Parser:
    """Bytes in, events out. Comments are counted."""

    def __init__(self) -> None:
        self._rest = b""
        self.comments = 0

    def feed(self, data: bytes) -> Iterator[Told]:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            fields: dict[str, str] = {}
            for line in block.decode().split("\n"):
                name, _, value = line.partition(":")
                self.comments += not name
                fields[name] = value.removeprefix(" ")
            if "data" in fields:
                yield Told(id=fields["id"], kind=fields["event"], data=json.loads(fields["data"]))


class Stream:
    """Events over a connection of its own, for plain threads. Ends where the server ends it."""

    def __init__(self, url: str, path: str, *, last: str = "", timeout: float = 60) -> None:
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
        self._connection.request("GET", path, headers={"Last-Event-ID": last} if last else {})
        self.answer = self._connection.getresponse()
        self.parser = Parser()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def __iter__(self) -> Iterator[Told]:
        """Raises OSError or HTTPException where the connection breaks."""
        while data := self.answer.read1(65536):
            yield from self.parser.feed(data)
