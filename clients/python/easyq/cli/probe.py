"""A look at what is behind an address, where no EasyQ answered."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum

_TIMEOUT = 2.0
# As an HTTP/1.1 client would begin. A gRPC server answers it with frames of HTTP/2, and not with words.
_QUESTION = b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Kind(Enum):
    """What is there."""

    NO_HOST = "no such host"
    REFUSED = "nothing listens"
    SILENT = "no answer"
    HTTP = "an HTTP server"
    OTHER = "something that answers"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found."""

    kind: Kind
    detail: str = ""

    def words(self, address: str) -> str:
        """What to tell a person; empty where the look tells no more than the error did."""
        host, _, port = address.rpartition(":")
        if self.kind is Kind.NO_HOST:
            return f"can't reach EasyQ at {address}: no such host; check --server, EASYQ_SERVER or `easyq context ls`"
        if self.kind is Kind.REFUSED:
            return f"can't reach EasyQ at {address}: nothing listens there (`easyq up` starts an EasyQ on this machine)"
        if self.kind is Kind.SILENT:
            return f"can't reach EasyQ at {address}: no answer within {_TIMEOUT:g} s; is it up, or a firewall between?"
        if self.kind is Kind.HTTP:
            hint = f"; its gRPC port is 10001 by default: try --server {host}:10001" if port != "10001" else ""
            return f"{address} speaks HTTP (REST), not gRPC{hint}"
        return ""


def look_at(address: str, timeout: float = _TIMEOUT) -> Sight:
    """Connects to `host:port` or `unix:/path` and asks as an HTTP client would."""
    try:
        with _connect(address, timeout) as connection:
            connection.settimeout(timeout)
            connection.sendall(_QUESTION)
            answer = connection.recv(16)
    except socket.gaierror as error:
        return Sight(Kind.NO_HOST, str(error.strerror))
    except ConnectionRefusedError:
        return Sight(Kind.REFUSED)
    except FileNotFoundError:
        return Sight(Kind.REFUSED)
    except TimeoutError:
        return Sight(Kind.SILENT)
    except (OSError, ValueError, UnicodeError) as error:
        return Sight(Kind.OTHER, str(error))
    return Sight(Kind.HTTP if answer.startswith(b"HTTP/1") else Kind.OTHER)


def _connect(address: str, timeout: float) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(address.removeprefix("unix:").removeprefix("//"))
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)
