"""The rules of deploy/prometheus, and promtool, which evaluates them over a recording."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.chaos.alerts.expected import Expected
from tests.chaos.alerts.series import STRETCH

ROOT = Path(__file__).resolve().parents[3]
RULES = [ROOT / "deploy/prometheus" / name for name in ("recording.yml", "alerts.yml")]
_UNITS = {"s": 1, "m": 60, "h": 3600}


def rules_of(path: Path) -> list[dict[str, Any]]:
    """All rules of a file."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def patience() -> dict[str, float]:
    """For how many seconds of a recording an alert's condition has to hold until it fires, by its name."""
    alerts = [rule for path in RULES for rule in rules_of(path) if "alert" in rule]
    return {rule["alert"]: _seconds(rule.get("for", "0s")) / STRETCH for rule in alerts}


def fires(one: Expected) -> dict[str, Any]:
    """promtool's test that an alert fires between two seconds."""
    fired = _within(f'alertname="{one.alert}", {one.labels}'.rstrip(", "), one.begin, one.end)
    return {
        "expr": f"clamp_max(count({fired}), 1)",
        "eval_time": _at(one.end),
        "exp_samples": [{"labels": "{}", "value": 1}],
    }


def none_fires(begin: int, end: int, *, but: Iterable[str] = ()) -> dict[str, Any]:
    """promtool's test that no alert fires between two seconds, `but` these (regexes)."""
    return {
        "expr": _within(f'alertname!~"{"|".join(but)}"', begin, end),
        "eval_time": _at(end),
        "exp_samples": [],
    }


def run_promtool(
    promtool: str,
    folder: Path,
    series: Sequence[Mapping[str, str]],
    tests: Sequence[Mapping[str, Any]],
    *,
    alerts: Sequence[Mapping[str, Any]] = (),
    external: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Evaluates the rules over series; what was not as the tests say, in promtool's words. Empty: all was.

    `alerts` are tests of whole alerts, with their annotations; `external` are Prometheus' external labels.
    """
    test = {
        "interval": f"{STRETCH}s",
        "input_series": list(series),
        "promql_expr_test": list(tests),
        "alert_rule_test": list(alerts),
        "external_labels": dict(external),
    }
    told = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": f"{STRETCH}s",
        "group_eval_order": ["easyq-figures", "easyq"],
        "tests": [test],
    }
    file = folder / "alerts-test.yml"
    file.write_text(json.dumps(told), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _within(selector: str, begin: int, end: int) -> str:
    return f'max_over_time(ALERTS{{alertstate="firing", {selector}}}[{(end - begin) * STRETCH}s])'


def _at(second: int) -> str:
    return f"{second * STRETCH}s"


def _seconds(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]
