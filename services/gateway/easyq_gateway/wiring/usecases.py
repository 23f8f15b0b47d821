"""What the gateway can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from easyq_chassis import ids
from easyq_chassis.about import own_version
from easyq_chassis.clock import SystemClock
from easyq_chassis.rules_file.watch import RulesFile
from easyq_gateway.config import GatewaySettings
from easyq_gateway.default_rules import parser
from easyq_gateway.domain.defaults import DefaultRule, Defaults
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.gate import Gate
from easyq_gateway.http_rules import Links
from easyq_gateway.pages.figures import StatisticsFigures
from easyq_gateway.pages.sources import Sources
from easyq_gateway.ports import Health
from easyq_gateway.usecases.admitting import Admitting
from easyq_gateway.usecases.again import Again
from easyq_gateway.usecases.awaiting import Awaiting
from easyq_gateway.usecases.batching import Batching
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.creating import Creating
from easyq_gateway.usecases.defaults import TaskDefaults
from easyq_gateway.usecases.deleting import Deleting
from easyq_gateway.usecases.excerpts import Excerpts
from easyq_gateway.usecases.explaining import Explaining
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.feed import Feed
from easyq_gateway.usecases.following import Following
from easyq_gateway.usecases.logs import Logs
from easyq_gateway.usecases.many import Many
from easyq_gateway.usecases.matching import Matchings
from easyq_gateway.usecases.notifications import Notifications
from easyq_gateway.usecases.presenting import Presenter
from easyq_gateway.usecases.queues import Queues
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.recurring import Recurring
from easyq_gateway.usecases.replacing import Replacing
from easyq_gateway.usecases.schedules import Schedules
from easyq_gateway.usecases.stats import Statistics
from easyq_gateway.usecases.steering import Steering
from easyq_gateway.usecases.upkeep import Upkeep
from easyq_gateway.usecases.watching import Watching
from easyq_gateway.wiring.neighbours import Neighbours


@dataclass(frozen=True, kw_only=True, slots=True)
class UseCases:
    """All of them, with what they share and others need as well."""

    version: str
    # Of the rules file, which `rules` watches.
    defaults: TaskDefaults
    rules: RulesFile[tuple[DefaultRule, ...]]
    feed: Feed
    creating: Creating
    replacing: Replacing
    batching: Batching
    reading: Reading
    awaiting: Awaiting
    watching: Watching
    steering: Steering
    recurring: Recurring
    notifications: Notifications
    deleting: Deleting
    many: Many
    queues: Queues
    upkeep: Upkeep
    matchings: Matchings
    explaining: Explaining
    logs: Logs
    following: Following
    statistics: Statistics
    farm: Farm
    again: Again
    redactor: Redactor

    def sources(self) -> Sources:
        """What the pages read and do."""
        return Sources(
            reading=self.reading,
            steering=self.steering,
            recurring=self.recurring,
            explaining=self.explaining,
            deleting=self.deleting,
            many=self.many,
            notifications=self.notifications,
            queues=self.queues,
            again=self.again,
            farm=self.farm,
            upkeep=self.upkeep,
            matchings=self.matchings,
            logs=self.logs,
            excerpts=Excerpts(logs=self.logs, following=self.following),
            feed=self.feed,
            figures=StatisticsFigures(self.statistics),
            redactor=self.redactor,
            clock=SystemClock(),
            version=self.version,
        )


def build(
    settings: GatewaySettings,
    neighbours: Neighbours,
    *,
    own_health: Callable[[], Health],
    requests: Gate,
    streams: Gate,
) -> UseCases:
    """Returns them. A request that waits for a job's end counts as a stream while it does, not as one of `requests`."""
    store, schedulers, dispatchers = neighbours.store, neighbours.schedulers, neighbours.dispatchers
    clock, links, redactor = SystemClock(), Links(), Redactor.of(settings.redact_names)
    new_execution_id = ids.new_execution_id
    defaults = TaskDefaults(_defaults(settings))
    rules = RulesFile(settings.rules, parser(defaults.base), defaults.set_rules)
    version = own_version()

    checker = Checker(clock=clock, redactor=redactor, defaults=defaults)
    schedules = Schedules(checker=checker, scheduler=schedulers)
    presenter = Presenter(dispatchers=dispatchers, redactor=redactor)
    admitting = Admitting(store=store, scheduler=schedulers, dispatchers=dispatchers)
    feed = Feed(list(neighbours.feeds.values()), patience=settings.store_patience, names=list(neighbours.feeds))
    creating = Creating(
        checker=checker,
        schedules=schedules,
        store=store,
        admitting=admitting,
        redactor=redactor,
        links=links,
        new_job_id=ids.new_job_id,
        new_execution_id=new_execution_id,
    )
    reading = Reading(checker=checker, store=store, presenter=presenter, links=links)
    return UseCases(
        version=version,
        defaults=defaults,
        rules=rules,
        feed=feed,
        redactor=redactor,
        creating=creating,
        replacing=Replacing(
            checker=checker,
            schedules=schedules,
            store=store,
            admitting=admitting,
            presenter=presenter,
            redactor=redactor,
            new_execution_id=new_execution_id,
        ),
        batching=Batching(checker=checker, schedules=schedules, creating=creating, in_flight=settings.stream_in_flight),
        reading=reading,
        awaiting=Awaiting(checker=checker, reading=reading, store=store, feed=feed, requests=requests, streams=streams),
        watching=Watching(checker=checker, store=store, feed=feed, patience=settings.stream_patience),
        steering=Steering(
            checker=checker,
            store=store,
            dispatchers=dispatchers,
            presenter=presenter,
            links=links,
            new_execution_id=new_execution_id,
        ),
        recurring=Recurring(
            checker=checker,
            store=store,
            scheduler=schedulers,
            dispatchers=dispatchers,
            presenter=presenter,
            links=links,
            clock=clock,
            new_execution_id=new_execution_id,
        ),
        notifications=Notifications(checker=checker, deliveries=neighbours.deliveries, redactor=redactor, links=links),
        deleting=Deleting(checker=checker, store=store, dispatchers=dispatchers),
        many=Many(checker=checker, store=store, dispatchers=dispatchers, presenter=presenter, links=links),
        queues=Queues(checker=checker, store=store, dispatchers=dispatchers, presenter=presenter, links=links),
        upkeep=Upkeep(checker=checker, agents=store, dispatchers=dispatchers),
        matchings=Matchings(checker=checker, dispatchers=dispatchers),
        explaining=Explaining(checker=checker, store=store, agents=store, dispatchers=dispatchers, presenter=presenter),
        logs=Logs(checker=checker, jobs=store, logs=neighbours.logs, clock=clock, patience=settings.stream_patience),
        following=Following(checker=checker, logs=neighbours.logs, clock=clock, patience=settings.stream_patience),
        statistics=Statistics(checker=checker, stats=neighbours.statistics, store=store, clock=clock),
        farm=Farm(
            checker=checker,
            store=store,
            agents=store,
            dispatchers=dispatchers,
            health=neighbours.health,
            own_health=own_health,
            own_problem=lambda: (rules.problem, rules.problem_since_ms),
            version=version,
            patience=settings.patience,
            clock=clock,
        ),
        again=Again(checker=checker, store=store, creating=creating, redactor=redactor),
    )


def _defaults(settings: GatewaySettings) -> Defaults:
    return Defaults(
        retries=settings.default_retries,
        infra_retries=settings.default_infra_retries,
        stop_grace_ms=round(settings.default_stop_grace * 1000),
        log_limit=settings.default_log_limit,
        on_lost=settings.default_on_lost,
        backoff_min_ms=round(settings.default_backoff_min * 1000),
        backoff_factor=settings.default_backoff_factor,
        backoff_max_ms=round(settings.default_backoff_max * 1000),
        backoff_jitter=settings.default_backoff_jitter,
        timeout_ms=round(settings.default_timeout * 1000) or None,
    )
