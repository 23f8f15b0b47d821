"""Ids made at the edge, so that a repeated call is harmless."""

from __future__ import annotations

import os
import time
import uuid


def new_job_id() -> str:
    """Returns 24 hex digits as an ObjectId has them: 4 bytes of seconds, 8 random bytes; sorts by second."""
    return (int(time.time()) & 0xFFFFFFFF).to_bytes(4).hex() + os.urandom(8).hex()


def new_execution_id() -> str:
    """Returns a random UUID."""
    return str(uuid.UUID(bytes=os.urandom(16), version=4))
