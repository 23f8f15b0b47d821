"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import json
from typing import Any

#: Headers of an answer that is a stream of them; some proxies would else keep back what comes.
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
#: The first bytes: browsers come again a second after a connection has ended.
BEGIN = b"retry: 1000\n\n"
#: A comment, while there is nothing to tell.
ALIVE = b": alive\n\n"


def event(name: str, data: Any, id_: str = "") -> bytes:
    """Returns an event with JSON, which has no line ends of its own, as data. Without an id it keeps the one before."""
    line = f"id: {id_}\n" if id_ else ""
    return f"{line}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
