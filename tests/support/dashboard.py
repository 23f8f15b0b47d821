"""The Grafana dashboard of deploy/, and a real Prometheus to ask what it asks."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.missing import require_program
from tests.support.server import Server
from tests.support.waiting import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana/easyq.json"
_VARIABLES = {"$task": ".*", "$pool": ".*"}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return found


def questions(*, rate_interval: str = "5m") -> dict[str, str]:
    """Every query by its panel's title and its letter, with Grafana's variables as it would replace them."""
    found = {}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", rate_interval)
            for name, value in _VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, expression
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


class Prometheus(Server):
    """Scrapes services (`targets`: their URLs by name) by the files of deploy/prometheus, fifteen times as often."""

    name = "prometheus"

    def __init__(self, targets: Mapping[str, str]) -> None:
        super().__init__()
        self._program = require_program("prometheus", "apt-get install prometheus")
        self.port = free_port()
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [
            {"targets": [url.removeprefix("http://")], "labels": {"service": name.partition("-")[0]}}
            for name, url in targets.items()
        ]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        for name in config["rule_files"]:
            rules = yaml.safe_load((DEPLOY / "prometheus" / name).read_text(encoding="utf-8"))
            for group in rules["groups"]:
                group["interval"] = "1s"
            (self.folder / name).write_text(yaml.safe_dump(rules), encoding="utf-8")

    def command(self) -> list[str | Path]:
        return [
            self._program,
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that answer it now, each with its `metric` and `value`."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def label_values(self, metric: str, label: str) -> list[str]:
        """As Grafana's `label_values(metric, label)`."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": metric})
        return found

    def _get(self, what: str, **arguments: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]
