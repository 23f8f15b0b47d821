"""Times as messages."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration


def duration(milliseconds: int) -> Duration:
    """A Duration of so many milliseconds."""
    result = Duration()
    result.FromMilliseconds(milliseconds)
    return result
