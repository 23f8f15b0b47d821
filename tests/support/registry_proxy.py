"""Stands before a registry and can say that it is busy: engines speak to it as to the registry itself."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.registry import Registry

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class RegistryProxy:
    """`address` is what stands before the slash of an image's name.

    While `busy` is true every question for a manifest is answered with 429, and with `retry_after` if that is set;
    `body` is what the answer says. While `silent` is true no such question is answered at all.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.busy = False
        self.retry_after = ""
        self.body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
        self.silent = False
        # Method and path of each question.
        self.requests: list[tuple[str, str]] = []
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def image(self, name: str) -> str:
        """The name by which an engine gets the registry's image through here."""
        return name.replace(self.registry.address, self.address)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.requests.append((self.command, self.path))
                if "/manifests/" in self.path and proxy.silent:
                    proxy._released.wait()
                    self.close_connection = True
                elif "/manifests/" in self.path and proxy.busy:
                    self._answer_busy()
                else:
                    self._pass_on()

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Requests are kept instead."""

            def _answer_busy(self) -> None:
                self.send_response(429)
                if proxy.retry_after:
                    self.send_header("Retry-After", proxy.retry_after)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(proxy.body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(proxy.body)

            def _pass_on(self) -> None:
                behind = http.client.HTTPConnection(proxy.registry.address, timeout=10)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                    behind.request(self.command, self.path, headers=headers)
                    answer = behind.getresponse()
                    body = answer.read()
                    size = answer.getheader("Content-Length") or str(len(body))
                finally:
                    behind.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", size)
                self.end_headers()
                self.wfile.write(body)

        return Handler
