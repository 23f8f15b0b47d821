"""The log of decisions: what plans decided, once it is durable."""

from collections.abc import Sequence

from easyq_chassis.logs import get_logger
from easyq_store.domain.changes import Note
from easyq_store.domain.decisions import decisions_of

log = get_logger()


def tell(notes: Sequence[Note]) -> None:
    """Writes a line for each decision."""
    for note in notes:
        for decision in decisions_of(note):
            if decision.grave:
                # Each by itself, however many there are: nobody could say later whose it was.
                log.warning(decision.event, **decision.fields, bounded=False)
            else:
                log.info(decision.event, **decision.fields)
