"""The alert rules and the dashboard: each fires when it should, has its runbook, and asks for metrics that there are.

The series are those of a real system that was broken in each of these ways: `python -m tests.chaos.alerts.record`
writes them.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from tests.chaos.alerts.record import RECORDED, ROOT, RULES, rules_of
from tests.chaos.alerts.series import STRETCH, names_in, read_series
from tests.support.missing import require_program

PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = [rule for rule in rules_of(PROMETHEUS / "alerts.yml") if "alert" in rule]
DASHBOARD = ROOT / "deploy/grafana/easyq.json"
RUNBOOK = ROOT / "docs/operations/alerts.md"
METRICS = ROOT / "docs/operations/metrics.md"

BROKEN = "jobs fail, one can't be pulled, notifications are refused"
BOUNDS = "too many streams, too few file descriptors"
# In which phase an alert has to fire, with which labels. An outage is known as such only after a while, so it may come
# until a minute after.
FIRES = [
    ("EasyQServiceDown", "the store hangs", 'service="store"'),
    ("EasyQRequestsFail", "the store hangs", ""),
    ("EasyQServiceDown", "the scheduler hangs", 'service="scheduler"'),
    ("EasyQSchedulesLate", "the scheduler hangs", ""),
    ("EasyQServiceNotReady", "Redis is away", 'service="dispatcher"'),
    ("EasyQRedisLosesData", "Redis loses its data", ""),
    ("EasyQDatabaseSlow", "Redis is slow", 'db_system_name="redis"'),
    ("EasyQEventLoopLags", "the gateway's machine is overloaded", 'service="gateway"'),
    ("EasyQRequestsRefused", BOUNDS, 'kind="streams"'),
    ("EasyQFileDescriptors", BOUNDS, 'service="scheduler"'),
    ("EasyQJobsFail", BROKEN, 'task="bad"'),
    ("EasyQBreakerOpen", BROKEN, 'kind="IMAGE"'),
    ("EasyQNotificationsGivenUp", BROKEN, 'channel="webhook"'),
    ("EasyQQueueWaits", "the scheduler hangs", 'task="held"'),
    ("EasyQEngineDown", "Docker is away", ""),
    ("EasyQNothingRunsJobs", "Docker is away", ""),
    ("EasyQServiceNotReady", "Docker is away", 'service="runner"'),
    ("EasyQServiceDegraded", "the dispatcher hangs", 'service="gateway"'),
    ("EasyQAgentDisconnected", "the dispatcher hangs", ""),
    ("EasyQAgentLost", "the dispatcher hangs", ""),
    ("EasyQExecutionsLost", "the dispatcher hangs", 'task="long"'),
    ("EasyQInfrastructureRetries", "the dispatcher hangs", ""),
]
LATER = 20
# Alerts that tell how it is, and not what happened within some time.
STATES = ("EasyQService.*", "EasyQNothingRunsJobs", "EasyQEngineDown", "EasyQAgentDisconnected", "EasyQRequestsFail")
# What a test can't break here: fed by hand. The alert, its series, and when it has to fire.
BY_HAND = [
    ("EasyQDiskNearlyFull", 'easyq_agent_disk_free_bytes{folder="data"}', "5e9x20 1e9x40", 60),
    ("EasyQDiskNearlyFull", 'easyq_store_disk_free_bytes{folder="data"}', "5e9x20 1e9x40", 60),
    # It goes on for as long as the host is away, and names it.
    ("EasyQAgentLost", 'easyq_agent_away{agent="host-1",state="DEAD"}', "_x30 1x200", 200),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    return require_program("promtool", "apt-get install prometheus")


def test_promtool_takes_them(promtool: str) -> None:
    for what, file in (("rules", RULES[0]), ("rules", RULES[1]), ("config", PROMETHEUS / "prometheus.yml")):
        done = subprocess.run([promtool, "check", what, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_follows_from_another_is_not_told() -> None:
    """Each rule of the example for Alertmanager is about alerts that there are. `amtool check-config` takes it."""
    config = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8"))
    known = {rule["alert"] for rule in ALERTS}
    for rule in config["inhibit_rules"]:
        assert "farm" in rule["equal"]
        for matchers in (rule["source_matchers"], rule["target_matchers"]):
            names = [one for one in matchers if one.startswith("alertname")]
            assert len(names) == 1
            assert set(re.findall(r"EasyQ\w+", names[0])) <= known
    if amtool := shutil.which("amtool"):
        done = subprocess.run([amtool, "check-config", PROMETHEUS / "alertmanager.yml"], check=False)
        assert done.returncode == 0


def test_each_alert_has_its_runbook() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert [section.splitlines()[0] for section in sections] == [rule["alert"] for rule in ALERTS]
    assert all(("**Look**" in section and "**Do**" in section) or "is named there" in section for section in sections)
    for rule in ALERTS:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f'"docs/operations/alerts.md" }}}}#{rule["alert"].lower()}')
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_each_alert_is_shown_to_fire() -> None:
    assert {rule["alert"] for rule in ALERTS} == {name for name, *_ in (*FIRES, *BY_HAND)}


def test_all_metrics_that_are_asked_for_are_there() -> None:
    told = METRICS.read_text(encoding="utf-8")
    rules = [rule for path in RULES for rule in rules_of(path)]
    targets = [target for panel in dashboard_panels() for target in panel.get("targets", ())]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for name in names_in([*rules, *targets]) - {"up"}:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{base}`" in told or f"`{name}`" in told, name
    for target in targets:
        assert set(re.findall(r"easyq:[a-z0-9_:]+", target["expr"])) <= recorded


def test_the_dashboard_is_whole() -> None:
    """No two panels over each other, none without an explanation, each on the datasource that is chosen."""
    places: set[tuple[int, int]] = set()
    panels = dashboard_panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert max(x for x, _ in cells) < 24
        places |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_the_dashboards_questions_are_ones(promtool: str, tmp_path: Path) -> None:
    """promtool reads each as the expression of a rule."""
    replaced = {"$__rate_interval": "5m", "$task": ".*", "$pool": ".*"}
    rules = []
    for panel in dashboard_panels():
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in replaced.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            rules.append({"record": f"panel_{panel['id']}_{target['refId']}".lower(), "expr": expression})
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_each_fires_when_it_should_and_none_when_all_is_well(promtool: str, tmp_path: Path) -> None:
    series, phases, seconds = read_series(RECORDED)
    calm = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": _at(phases["calm"][1] - 1), "exp_samples": []}
    # What was mended is told no more.
    states = f'ALERTS{{alertstate="firing", alertname=~"{"|".join(STATES)}"}}'
    tests = [calm, {"expr": states, "eval_time": _at(seconds - 1), "exp_samples": []}]
    for alert, phase, labels in FIRES:
        begin, end = phases[phase]
        tests.append(_fires(alert, labels, begin, end + LATER))
    done = _promtool(promtool, tmp_path, series, tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_fed_by_hand_fires_too(promtool: str, tmp_path: Path) -> None:
    for alert, name, values, second in BY_HAND:
        before = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": _at(20), "exp_samples": []}
        tests = [before, _fires(alert, "", 0, second)]
        done = _promtool(promtool, tmp_path, [{"series": name, "values": values}], tests)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("base", ["", "https://wiki.example/easyq/alerts"])
def test_the_runbook_is_where_the_operator_has_it(promtool: str, tmp_path: Path, base: str) -> None:
    """Prometheus' external label `easyq_runbooks` says where."""
    alert, name, values, second = BY_HAND[0]
    (rule,) = [rule for rule in ALERTS if rule["alert"] == alert]
    wanted = {
        "exp_labels": {"severity": "warning", "folder": "data"},
        "exp_annotations": {
            "summary": "953.7MiB are left for data on ",
            "description": rule["annotations"]["description"],
            "runbook_url": f"{base or 'docs/operations/alerts.md'}#{alert.lower()}",
        },
    }
    told = [{"eval_time": _at(second), "alertname": alert, "exp_alerts": [wanted]}]
    series = [{"series": name, "values": values}]
    done = _promtool(promtool, tmp_path, series, [], alerts=told, external={"easyq_runbooks": base} if base else {})
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_does_not_fire_is_found(promtool: str, tmp_path: Path) -> None:
    """So that the test before this one can fail: without its series no alert fires."""
    series, phases, _ = read_series(RECORDED)
    begin, end = phases["Redis is away"]
    kept = [one for one in series if not one["series"].startswith("easyq_ready")]
    done = _promtool(promtool, tmp_path, kept, [_fires("EasyQServiceNotReady", "", begin, end + LATER)])
    assert done.returncode == 1


def dashboard_panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return panels


def _at(second: int) -> str:
    return f"{second * STRETCH}s"


def _fires(alert: str, labels: str, begin: int, end: int) -> dict[str, Any]:
    where = f'alertname="{alert}", alertstate="firing"{", " if labels else ""}{labels}'
    fired = f"max_over_time(ALERTS{{{where}}}[{(end - begin) * STRETCH}s])"
    return {
        "expr": f"clamp_max(count({fired}), 1)",
        "eval_time": _at(end),
        "exp_samples": [{"labels": "{}", "value": 1}],
    }


def _promtool(
    promtool: str,
    folder: Path,
    series: list[dict[str, str]],
    tests: list[dict[str, Any]],
    *,
    alerts: Sequence[dict[str, Any]] = (),
    external: Mapping[str, str] = MappingProxyType({}),
) -> "subprocess.CompletedProcess[str]":
    told = {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": f"{STRETCH}s",
        "group_eval_order": ["easyq-figures", "easyq"],
        "tests": [
            {
                "interval": f"{STRETCH}s",
                "input_series": series,
                "promql_expr_test": tests,
                "alert_rule_test": list(alerts),
                "external_labels": dict(external),
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(told), encoding="utf-8")
    return subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
