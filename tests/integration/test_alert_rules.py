"""The alert rules and the dashboard: each fires when it should, has its runbook, and asks for metrics that there are.

The series are those of a real system on which the nemesis made one outage of each kind: `python -m
tests.chaos.nemesis --outages` writes them. What has to come of an outage is said in tests/chaos/alerts/expected.py, and
the nemesis's other runs are held to the same.
"""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.chaos.alerts.expected import expected
from tests.chaos.alerts.judge import RECORDED, problems_of
from tests.chaos.alerts.rules import RULES, fires, none_fires, patience, rules_of, run_promtool
from tests.chaos.alerts.series import Recorded, names_in, read_series
from tests.support.dashboard import DEPLOY, dashboard, questions
from tests.support.missing import require_program

ALERTS = [rule for rule in rules_of(DEPLOY / "prometheus/alerts.yml") if "alert" in rule]
RUNBOOK = DEPLOY.parent / "docs/operations/alerts.md"
METRICS = DEPLOY.parent / "docs/operations/metrics.md"

# Alerts that tell how it is, and not what happened within some time.
STATES = ("EasyQService.*", "EasyQNothingRunsJobs", "EasyQEngineDown", "EasyQAgentDisconnected", "EasyQDiskNearlyFull")


@pytest.fixture(scope="module")
def promtool() -> str:
    return require_program("promtool", "apt-get install prometheus")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return read_series(RECORDED)


def test_promtool_takes_them(promtool: str) -> None:
    config = DEPLOY / "prometheus/prometheus.yml"
    for what, file in (("rules", RULES[0]), ("rules", RULES[1]), ("config", config)):
        done = subprocess.run([promtool, "check", what, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_follows_from_another_is_not_told() -> None:
    """Each rule of the example for Alertmanager is about alerts that there are. `amtool check-config` takes it."""
    config = yaml.safe_load((DEPLOY / "prometheus/alertmanager.yml").read_text(encoding="utf-8"))
    known = {rule["alert"] for rule in ALERTS}
    for rule in config["inhibit_rules"]:
        assert "farm" in rule["equal"]
        for matchers in (rule["source_matchers"], rule["target_matchers"]):
            names = [one for one in matchers if one.startswith("alertname")]
            assert len(names) == 1
            assert set(re.findall(r"EasyQ\w+", names[0])) <= known
    if amtool := shutil.which("amtool"):
        done = subprocess.run([amtool, "check-config", DEPLOY / "prometheus/alertmanager.yml"], check=False)
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


def test_all_metrics_that_are_asked_for_are_there() -> None:
    told = METRICS.read_text(encoding="utf-8")
    rules = [rule for path in RULES for rule in rules_of(path)]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    targets = [{"expr": expression} for expression in questions().values()]
    for name in names_in([*rules, *targets]) - {"up"}:
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{base}`" in told or f"`{name}`" in told, name
    for target in targets:
        assert set(re.findall(r"easyq:[a-z0-9_:]+", target["expr"])) <= recorded


def test_the_dashboard_is_whole() -> None:
    """No two panels over each other, none without an explanation, each on the datasource that is chosen."""
    places: set[tuple[int, int]] = set()
    panels = dashboard()["panels"]
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
    """promtool reads each as the expression of a rule; tests/e2e/test_dashboard.py has them answered."""
    rules = [{"record": f"panel_{number}", "expr": one} for number, one in enumerate(questions().values())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_its_outage(recorded: Recorded) -> None:
    assert {one.alert for one in expected(recorded.faults, patience())} == {rule["alert"] for rule in ALERTS}
    # Of the disk that is nearly full too: nothing is fed by hand.
    assert {one.error for one in recorded.faults} == {""}


@pytest.mark.timeout(120)
def test_each_fires_when_it_should_and_none_when_all_is_well(promtool: str, tmp_path: Path) -> None:
    assert problems_of(promtool, RECORDED, tmp_path) == []


def test_what_was_mended_is_told_no_more(promtool: str, recorded: Recorded, tmp_path: Path) -> None:
    end = recorded.seconds - 1
    others = (rule["alert"] for rule in ALERTS if not re.fullmatch("|".join(STATES), rule["alert"]))
    assert run_promtool(promtool, tmp_path, recorded.series, [none_fires(end - 1, end, but=others)]) == ""


@pytest.mark.parametrize("base", ["", "https://wiki.example/easyq/alerts"])
@pytest.mark.parametrize("whose", ["agent", "store"])
def test_the_runbook_is_where_the_operator_has_it(promtool: str, tmp_path: Path, base: str, whose: str) -> None:
    """Prometheus' external label `easyq_runbooks` says where."""
    alert = "EasyQDiskNearlyFull"
    (rule,) = [rule for rule in ALERTS if rule["alert"] == alert]
    wanted = {
        "exp_labels": {"severity": "warning", "folder": "data"},
        "exp_annotations": {
            "summary": "953.7MiB are left for data on ",
            "description": rule["annotations"]["description"],
            "runbook_url": f"{base or 'docs/operations/alerts.md'}#{alert.lower()}",
        },
    }
    told = [{"eval_time": "20m", "alertname": alert, "exp_alerts": [wanted]}]
    series = [{"series": f'easyq_{whose}_disk_free_bytes{{folder="data"}}', "values": "1e9x80"}]
    external = {"easyq_runbooks": base} if base else {}
    assert run_promtool(promtool, tmp_path, series, [], alerts=told, external=external) == ""


def test_a_lost_host_is_named_until_it_is_back(promtool: str, tmp_path: Path) -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "EasyQAgentLost"]
    store = 'instance="one",service="store"'
    away = 'easyq_agent_away{{agent="{}",state="{}",{}}}'
    series = [
        {"series": f"easyq_agents_lost_total{{{store}}}", "values": "0x19 2x400"},
        {"series": away.format("a", "DEAD", store), "values": "_x20 1x279"},
        {"series": away.format("b", "DEAD", store), "values": "_x20 1x3"},
        {"series": away.format("c", "SILENT", store), "values": "1x400"},
        {"series": away.format("d", "DEAD", store.replace("one", "two")), "values": "_x390 1x10"},
    ]

    def told(minutes: int, summary: str) -> dict[str, object]:
        annotations = {
            "summary": summary,
            "description": rule["annotations"]["description"],
            "runbook_url": "docs/operations/alerts.md#easyqagentlost",
        }
        labels = {"severity": "critical", "instance": "one", "service": "store"}
        expected = [{"exp_labels": labels, "exp_annotations": annotations}] if summary else []
        return {"eval_time": f"{minutes}m", "alertname": "EasyQAgentLost", "exp_alerts": expected}

    alerts = [told(4, ""), told(6, "a, b: declared dead"), told(50, "a: declared dead"), told(80, "")]
    assert run_promtool(promtool, tmp_path, series, [], alerts=alerts) == ""
    series[1]["values"] = "_x20 1x4"
    alerts = [told(12, "A host was declared dead, and is back"), told(50, "")]
    assert run_promtool(promtool, tmp_path, series, [], alerts=alerts) == ""


def test_a_rule_that_does_not_fire_is_found(promtool: str, recorded: Recorded, tmp_path: Path) -> None:
    """So that the tests before this one can fail: without its series no alert fires, and one is not like another."""
    ready = next(one for one in expected(recorded.faults, patience()) if one.alert == "EasyQServiceNotReady")
    kept = [one for one in recorded.series if not one["series"].startswith("easyq_ready")]
    assert "EasyQServiceNotReady" in run_promtool(promtool, tmp_path, kept, [fires(ready)])
    wrong = [fires(replace(ready, labels='instance="store"')), none_fires(ready.begin, ready.end)]
    assert run_promtool(promtool, tmp_path, recorded.series, wrong).count("expr:") == 2
