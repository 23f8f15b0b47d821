"""Metrics as Prometheus would have them: read over HTTP, by the parser of its own client library."""

import urllib.request
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

_OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Scrape:
    """All samples of one answer, as (name, labels, value), and the names of its families."""

    samples: list[tuple[str, dict[str, str], float]]
    families: set[str]

    def value(self, name: str, **labels: str) -> float:
        """The sum of those samples that have these labels, among others; 0 if there is none."""
        return sum(value for _, value in self.of(name, **labels))

    def of(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Those samples."""
        return [(has, value) for one, has, value in self.samples if one == name and labels.items() <= has.items()]


def scrape(url: str, *, newer_form: bool = False) -> Scrape:
    """What stands at `url` (`http://host:port`) below `/metrics`; `newer_form`: as OpenMetrics."""
    accept = {"Accept": _OPEN_METRICS if newer_form else "*/*"}
    request = urllib.request.Request(f"{url}/metrics", headers=accept)  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
        text = answer.read().decode()
    families = list((open_metrics if newer_form else plain)(text))
    return Scrape(
        samples=[(s.name, dict(s.labels), s.value) for family in families for s in family.samples],
        families={family.name for family in families},
    )
