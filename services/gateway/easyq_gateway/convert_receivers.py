"""Receivers of notifications between messages and the domain; hiding their secrets, and putting them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from easyq.v1 import notification_service_pb2, notify_pb2, spec_pb2
from easyq_gateway.domain import receivers
from easyq_gateway.domain.receivers import HookFacts
from easyq_gateway.domain.redaction import Redactor

_EVENTS = ("succeeds", "fails", "finishes")


def _hooks(spec: spec_pb2.JobSpec) -> Iterator[tuple[str, str, notify_pb2.Webhook]]:
    """Each with its event, and its path in the spec."""
    if spec.HasField("webhooks"):
        for event in _EVENTS:
            for index, hook in enumerate(getattr(spec.webhooks, event)):
                yield event, f"webhooks.{event}[{index}]", hook


def _facts(path: str, hook: notify_pb2.Webhook) -> HookFacts:
    return HookFacts(
        path=path, url=hook.url, headers=dict(hook.headers), secret=hook.secret, secret_name=hook.secret_name
    )


def hook_facts(spec: spec_pb2.JobSpec) -> list[HookFacts]:
    """Returns what the rules look at."""
    return [_facts(path, hook) for _, path, hook in _hooks(spec)]


def redact(spec: spec_pb2.JobSpec, redactor: Redactor) -> None:
    """Hides the secrets of receivers, in place."""
    for _, path, hook in _hooks(spec):
        _write(hook, receivers.show_hook(_facts(path, hook), redactor))


def are_marked(spec: spec_pb2.JobSpec, redactor: Redactor) -> bool:
    """Whether something of them stands for what was not shown."""
    return any(receivers.is_marked(facts, redactor) for facts in hook_facts(spec))


def restore(spec: spec_pb2.JobSpec, stored: spec_pb2.JobSpec, redactor: Redactor) -> None:
    """Puts stored values where marks are, in place; marks for which nothing is stored stay."""
    known = [(event, _facts(path, hook)) for event, path, hook in _hooks(stored)]
    for event, path, hook in _hooks(spec):
        same = [facts for of, facts in known if of == event]
        same_places = len(same) == len(getattr(spec.webhooks, event))
        _write(hook, receivers.restored(_facts(path, hook), same, redactor, same_places=same_places))


def redact_deliveries(deliveries: Iterable[notification_service_pb2.Delivery], redactor: Redactor) -> None:
    """Hides the secrets of receivers' URLs, in place."""
    for delivery in deliveries:
        if delivery.channel == notification_service_pb2.Delivery.Channel.WEBHOOK:
            delivery.target = receivers.show_url(delivery.target, redactor)


def _write(hook: notify_pb2.Webhook, facts: HookFacts) -> None:
    hook.url, hook.secret = facts.url, facts.secret
    for name, value in facts.headers.items():
        hook.headers[name] = value
