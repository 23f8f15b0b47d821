"""Callers that leave before they have their answer: their own affair, and no error of the service.

gRPC writes the answer of a unary call, and every error status, after the handler has returned. Where the caller has
gone by then (its deadline was short), the write fails, and gRPC logs that as an error with a traceback.
"""

from __future__ import annotations

import logging

import grpc.aio

from easyq_chassis.logs import get_logger

_GRPC = "grpc._cython.cygrpc"


class _Departed(logging.Filter):
    """Takes such records out, and tells of them for those who look closely. gRPC's method stands in its sentence."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        # What handlers raise never gets as far as there: this is what gRPC itself raised when it wrote.
        if not isinstance(error, grpc.aio.InternalError):
            return True
        get_logger(__name__).debug("caller_gone", what=record.getMessage(), error=str(error))
        return False


_DEPARTED = _Departed()


def hush_departed_callers() -> None:
    """Has gRPC's own log do so, in the whole process. A repeat changes nothing."""
    logging.getLogger(_GRPC).addFilter(_DEPARTED)
