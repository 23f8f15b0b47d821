"""The HTTP server of the operations port: `/metrics`, `/livez`, `/readyz`."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web

from easyq_chassis.errors import Unavailable
from easyq_chassis.metrics.export import Exports
from easyq_chassis.ops.readiness import Readiness

_TEXT = "text/plain; charset=utf-8"
# Names of this machine that a browser may have been told are others' (a page that reads by DNS rebinding).
_LOCAL = ("localhost",)


class OpsServer:
    """Serves at `listen` (`host:port`; port 0 picks a free one)."""

    def __init__(self, listen: str, *, exports: Exports, readiness: Readiness) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)
        self._exports = exports
        self._readiness = readiness
        self._runner: web.ServerRunner | None = None
        self.address = listen

    async def start(self) -> None:
        """Binds and serves. Raises `Unavailable` naming the address if it can't be bound."""
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.5)
        await runner.setup()
        host = self._host.strip("[]") or None
        try:
            await web.TCPSite(runner, host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise Unavailable(f"can't listen on {self.address} for metrics and health: {error}") from error
        self._runner = runner
        self.address = f"{self._host}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Ends it."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Origin" in request.headers or not self._is_meant(request.headers.get("Host", "")):
            return _text("pages of the web may not ask here\n", status=403)
        answers: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            "/metrics": self._metrics,
            "/livez": self._livez,
            "/readyz": self._readyz,
        }
        answer = answers.get(request.path)
        if answer is None:
            return _text("here are /metrics, /livez and /readyz\n", status=404)
        if request.method not in {"GET", "HEAD"}:
            return _text("only GET\n", status=405, allow="GET, HEAD")
        return await answer(request)

    def _is_meant(self, host: str) -> bool:
        """On loopback only this machine's programs ask, by its address; elsewhere by whatever name."""
        if not _is_loopback(self._host.strip("[]")):
            return True
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        return _is_loopback(name.strip("[]"))

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        return await metrics_answer(self._exports, request.headers.get("Accept", ""))

    async def _livez(self, _: web.BaseRequest) -> web.Response:
        # That this is answered shows it: the event loop runs. No neighbour may make it fail, or all would be restarted.
        return _text("alive\n")

    async def _readyz(self, _: web.BaseRequest) -> web.Response:
        return _text(self._readiness.text(), status=200 if self._readiness.ready else 503)


async def metrics_answer(exports: Exports, accept: str) -> web.Response:
    """All metrics, in the form that `accept` asks for."""
    body, content_type = await exports.text(accept)
    return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def _text(text: str, *, status: int = 200, allow: str = "") -> web.Response:
    headers = {"Content-Type": _TEXT, "Cache-Control": "no-store"}
    if allow:
        headers["Allow"] = allow
    return web.Response(text=None, body=text.encode(), status=status, headers=headers)


def _is_loopback(host: str) -> bool:
    if host.lower() in _LOCAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
