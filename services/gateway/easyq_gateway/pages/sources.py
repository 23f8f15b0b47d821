"""What the pages are made from: the use cases behind the API, and no other way to anything."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.pages.figures import Figures
from easyq_gateway.usecases.again import Again
from easyq_gateway.usecases.deleting import Deleting
from easyq_gateway.usecases.excerpts import Excerpts
from easyq_gateway.usecases.explaining import Explaining
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.feed import Feed
from easyq_gateway.usecases.logs import Logs
from easyq_gateway.usecases.many import Many
from easyq_gateway.usecases.matching import Matchings
from easyq_gateway.usecases.notifications import Notifications
from easyq_gateway.usecases.queues import Queues
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.recurring import Recurring
from easyq_gateway.usecases.steering import Steering
from easyq_gateway.usecases.upkeep import Upkeep

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The use cases, as the gateway's app made them."""

    reading: Reading
    steering: Steering
    recurring: Recurring
    explaining: Explaining
    deleting: Deleting
    many: Many
    notifications: Notifications
    queues: Queues
    again: Again
    farm: Farm
    upkeep: Upkeep
    matchings: Matchings
    logs: Logs
    feed: Feed
    figures: Figures
    excerpts: Excerpts
    redactor: Redactor
    clock: Clock
    version: str


async def if_there(call: Awaitable[T]) -> T | None:
    """Returns what a call gives, None where it fails: a page shows what it can."""
    try:
        return await call
    except EasyQError:
        return None
