"""The client side of gRPC between services."""

from __future__ import annotations

import json
from collections.abc import Iterable

import grpc
import grpc.aio

from easyq_chassis.metrics.rpc_client import AskedTimes

#: Internal calls are chunked below 3 MiB; the rest is room for what surrounds them. A batch by REST may have 32 MiB.
MAX_MESSAGE = 36 * 1024 * 1024

#: Both ends must agree, or servers answer pings with GOAWAY. Half-open connections are found within 5 s + 10 s. An
#: answer may take its time: on a slow link it waits behind a batch of 2 MiB.
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A ping that is under way already, for whatever reason, stands for the keepalive's own: it has a minute by default.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


#: Bytes of one stream that may come ahead of its reader. gRPC's own bound grows with the speed of the link, to 10 MB.
_WINDOW = 64 * 1024


def open_channel(address: str, *, idempotent: Iterable[str] = (), slow_readers: bool = False) -> grpc.aio.Channel:
    """Opens a channel to ``host:port`` or ``unix:/path``. One channel per address and process: they are shared.

    ``idempotent`` names services (``package.Service``) or methods (``package.Service/Method``) whose calls are repeated
    with jitter, up to four times, while the server is UNAVAILABLE. Others are not repeated.

    ``slow_readers``: for streams that are passed on to readers who may take nothing for long. Each has one message and
    64 KiB here at most, and what it does not take waits at the server.
    """
    policy = {
        "methodConfig": [
            {
                "name": [_method_name(name) for name in idempotent],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
    options: list[tuple[str, int | str]] = [
        *KEEPALIVE,
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        # A neighbour that restarts is found again at once, not after gRPC's own two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # So long an attempt to connect may take, whatever its name says: over a slow link, to a busy machine.
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_retries", 1),
        # Channels of one process must not share a subchannel's back-off.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if slow_readers:
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", _WINDOW)]
    if policy["methodConfig"][0]["name"]:
        options.append(("grpc.service_config", json.dumps(policy)))
    return AskedTimes(grpc.aio.insecure_channel(address, options=options), address)


def _method_name(name: str) -> dict[str, str]:
    service, _, method = name.partition("/")
    return {"service": service, "method": method} if method else {"service": service}


def remaining_deadline(context: grpc.aio.ServicerContext[object, object], most: float) -> float:
    """Returns the seconds that a call made on behalf of this one may take: what its caller still waits, or ``most``."""
    left: float | None = context.time_remaining()  # None without a deadline, whatever the type stubs say
    return most if left is None else max(0.0, min(most, left))
