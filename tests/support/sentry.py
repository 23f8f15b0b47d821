"""A small Sentry: an HTTP server that takes the envelopes of real clients apart."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "k3y0fs3ntry5a11ed5e1f0a1b2c3d4e5"


class Sentry:
    """Keeps events. `status` is its answer; while `gate` is shut it takes a request and answers nothing."""

    def __init__(self, key: str = KEY) -> None:
        self._key = key
        self.events: list[dict[str, Any]] = []
        #: Bodies as they came, but unpacked.
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.delay = 0.0
        self.gate = threading.Event()
        self.gate.set()
        #: Requests that came, answered or not.
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.gate.wait(60)
                time.sleep(outer.delay)
                if outer.status == 200:
                    outer.take(self.path, dict(self.headers), body)
                self.send_response(outer.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.dsn = f"http://{key}@127.0.0.1:{self.server.server_port}/7"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert path == "/api/7/envelope/", path
        assert f"sentry_key={self._key}" in headers["X-Sentry-Auth"]
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.raw.append(body)
        self.headers.append(headers)
        for kind, payload in items(body):
            assert kind == "event", kind
            self.events.append(json.loads(payload))

    def of(self, **tags: str) -> list[dict[str, Any]]:
        """The events with these tags."""
        return [event for event in list(self.events) if tags.items() <= event["tags"].items()]

    def texts(self) -> bytes:
        """All that came, headers too, but the key that is for it."""
        told = [json.dumps(one).encode() for one in self.headers]
        return b"\n".join([*self.raw, *told]).replace(self._key.encode(), b"")


def items(envelope: bytes) -> Iterator[tuple[str, bytes]]:
    """The items of an envelope: a line of JSON for the whole, then for each a line of JSON and its payload."""
    _, _, rest = envelope.partition(b"\n")
    while rest:
        head, _, rest = rest.partition(b"\n")
        header = json.loads(head)
        size = header.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        yield header["type"], rest[:size]
        rest = rest[size:].removeprefix(b"\n")


@contextmanager
def sentry(key: str = KEY) -> Iterator[Sentry]:
    """One on a free port, until the block ends."""
    made = Sentry(key)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        made.server.shutdown()
        thread.join()
        made.server.server_close()
