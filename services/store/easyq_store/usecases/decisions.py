"""The log of decisions: what plans decided, once it is durable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from easyq_chassis.logs import get_logger
from easyq_store.domain.changes import Note
from easyq_store.domain.decisions import decisions_of

log = get_logger()

# Who decides what is told here, where it is neither a caller nor the course of things.
_by: ContextVar[str] = ContextVar("decided_by", default="")


@contextmanager
def decided_by(name: str) -> Iterator[None]:
    """Whatever is decided within is this part's, which tells of all that in a line of its own: each by itself is told
    at `debug`."""
    token = _by.set(name)
    try:
        yield
    finally:
        _by.reset(token)


def tell(notes: Sequence[Note]) -> None:
    """Writes a line for each decision."""
    by = _by.get()
    for note in notes:
        for decision in decisions_of(note):
            if by:
                log.debug(decision.event, **decision.fields, by=by)
            elif decision.grave:
                # Each by itself, however many there are: nobody could say later whose it was.
                log.warning(decision.event, **decision.fields, bounded=False)
            else:
                log.info(decision.event, **decision.fields)
