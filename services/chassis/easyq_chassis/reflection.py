"""gRPC's reflection, which also finds methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class _Pool:
    """The default pool. protobuf's own search for a symbol knows no methods, so `grpcurl describe` of one fails."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - its name in protobuf
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


def enable(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Adds reflection for the services of these full names, and for itself."""
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server, pool=_Pool())
