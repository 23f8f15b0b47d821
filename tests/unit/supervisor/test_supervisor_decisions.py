"""When a process is started again, what is started, and which Docker Engine is taken."""

import hashlib
import importlib
import itertools
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_supervisor.adapters.docker_context import STANDARD, default_docker_host
from easyq_supervisor.domain import backoff
from easyq_supervisor.domain.engine import Choice, Facts, asks, choose
from easyq_supervisor.domain.hosts import DockerHost, Offer
from easyq_supervisor.domain.options import Options
from easyq_supervisor.domain.plan import RULES_READERS, STOP_WAVES, AgentPlan, Surroundings, plan, rules_text
from easyq_supervisor.domain.space import LEAST_FREE, space_warning
from easyq_supervisor.domain.toml import dump


def test_the_wait_doubles_up_to_its_longest() -> None:
    delays = [backoff.next_delay(None, lived=0.0)]
    for _ in range(7):
        delays.append(backoff.next_delay(delays[-1], lived=0.1))
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == backoff.LONGEST


@given(previous=st.floats(0.1, 5), lived=st.floats(backoff.STEADY, 1e6))
def test_one_that_had_started_well_begins_anew(previous: float, lived: float) -> None:
    assert backoff.next_delay(previous, lived=lived) == backoff.FIRST


AROUND = Surroundings(
    farm="easyq-1a2b",
    data="/d",
    run="/d/run",
    rules="/d/rules.toml",
    rest_port=1,
    grpc_port=2,
    metrics_ports=(11, 12, 13, 14, 15, 16, 17),
    pid=7,
    python="/python",
    valkey="/valkey",
    log_format="json",
)


def agent(number: int, pool: str = "default") -> AgentPlan:
    host = DockerHost(url=f"unix:///{number}", pools=(pool,))
    return AgentPlan(agent_id=f"h{number}", host=host, data=f"/d/agents/h{number}")


def test_everything_embedded() -> None:
    specs = plan(Options(), AROUND, [agent(1)])
    assert [spec.name for spec in specs] == ["redis", "store", "dispatcher", "scheduler", "gateway", "runner"]
    assert {spec.kind for spec in specs} == set(itertools.chain(*STOP_WAVES))
    by_name = {spec.name: spec for spec in specs}
    assert by_name["store"].argv == ("/python", "-m", "easyq_store")
    assert by_name["store"].env["EASYQ_STORE_LISTEN"] == "unix:/d/run/store.sock"
    assert by_name["dispatcher"].env["EASYQ_DISPATCHER_REDIS"] == "unix:///d/run/redis.sock"
    assert by_name["gateway"].env["EASYQ_GATEWAY_REST_LISTEN"] == "127.0.0.1:1"
    assert by_name["gateway"].env["EASYQ_GATEWAY_GRPC_LISTEN"] == "127.0.0.1:2"
    served_at = {spec.name: spec.env[f"EASYQ_{spec.kind.upper()}_OPS_LISTEN"] for spec in specs if spec.kind != "redis"}
    assert served_at == {
        "gateway": "127.0.0.1:11",
        "scheduler": "127.0.0.1:12",
        "store": "127.0.0.1:13",
        "dispatcher": "127.0.0.1:14",
        "runner": "127.0.0.1:15",
    }
    assert by_name["runner"].env["EASYQ_RUNNER_DOCKER_HOST"] == "unix:///1"
    assert by_name["runner"].env["EASYQ_RUNNER_SLOTS"] == "4"
    assert by_name["store"].env["EASYQ_STORE_DATABASE"] == "sqlite:////d/easyq.db"
    services = [spec for spec in specs if spec.kind != "redis"]
    assert {spec.env[f"EASYQ_{spec.kind.upper()}_FARM"] for spec in services} == {"easyq-1a2b"}
    redis = by_name["redis"].argv
    assert redis[:3] == ("/valkey", "--port", "0")
    # Whoever listens is where the others look.
    for name in ("store", "scheduler", "dispatcher"):
        listen = by_name[name].env[f"EASYQ_{name.upper()}_LISTEN"]
        users = [spec for spec in specs if spec.name != name and listen in spec.env.values()]
        assert users, name


def test_whoever_is_needed_to_end_well_ends_in_a_later_wave() -> None:
    by_name = {spec.name: spec for spec in plan(Options(), AROUND, [agent(1)])}
    wave = {kind: number for number, kinds in enumerate(STOP_WAVES) for kind in kinds}
    sockets = {name: f"/d/run/{name}.sock" for name in ("store", "dispatcher", "redis")}
    needs = {
        (user.kind, name)
        for user in by_name.values()
        for name, socket in sockets.items()
        if user.kind != name and any(value.endswith(socket) for value in user.env.values())
    }
    assert {("runner", "dispatcher"), ("runner", "store"), ("dispatcher", "store"), ("dispatcher", "redis")} <= needs
    assert all(wave[user] < wave[name] for user, name in needs)
    # What nobody waits for ends at once.
    assert wave["runner"] == wave["gateway"] == wave["scheduler"] == 0


def test_the_agent_finds_the_default_engine_as_the_docker_command_does() -> None:
    [runner] = [spec for spec in plan(Options(), AROUND, [replace(agent(1), is_default=True)]) if spec.kind == "runner"]
    assert "EASYQ_RUNNER_DOCKER_HOST" not in runner.env


def test_servers_of_others_are_used_instead() -> None:
    specs = plan(Options(redis="redis://r", mongo="mongodb://m"), AROUND, [agent(1)])
    by_name = {spec.name: spec.env for spec in specs}
    assert "redis" not in by_name
    assert by_name["dispatcher"]["EASYQ_DISPATCHER_REDIS"] == "redis://r"
    assert by_name["store"]["EASYQ_STORE_DATABASE"] == "mongodb://m"


def test_each_docker_host_has_an_agent_in_its_pool() -> None:
    two = replace(agent(2), host=DockerHost(url="unix:///2", pools=("gpu", "default"), offer=Offer(slots=9, gpus=1)))
    specs = plan(Options(labels=(("zone", "a"),)), AROUND, [agent(1), two])
    runners = [spec for spec in specs if spec.kind == "runner"]
    assert [spec.name for spec in runners] == ["runner-1", "runner-2"]
    assert [spec.env["EASYQ_RUNNER_POOLS"] for spec in runners] == ["default", "gpu,default"]
    assert [spec.env["EASYQ_RUNNER_SLOTS"] for spec in runners] == ["4", "9"]
    assert [spec.env["EASYQ_RUNNER_LABELS"] for spec in runners] == ["zone=a", "zone=a"]
    assert [spec.env.get("EASYQ_RUNNER_GPUS") for spec in runners] == [None, "1"]
    assert len({spec.env["EASYQ_RUNNER_DATA"] for spec in runners}) == 2


def test_only_an_agent_may_end_by_itself_and_it_is_told_how_to_have_it_back() -> None:
    specs = plan(Options(), AROUND, [agent(1)])
    assert [spec.kind for spec in specs if spec.farewell] == ["runner"]
    assert specs[-1].farewell.endswith("curl -XDELETE http://127.0.0.1:1/agents/h1/drain && kill -HUP 7")


def test_rules_stand_in_one_file() -> None:
    options = Options(
        pools=(
            {"name": "gpu", "pattern": r"gpu-\d+", "max_running": 1, "lost_after": "45s"},
            {"name": "b", "pattern": '"b",c'},
        ),
        limits=({"pattern": "x{1,2}", "max_running": 0},),
        weights=({"pattern": "y", "weight": 3},),
        defaults=({"pattern": "z", "retryOn": ["75"], "backoffJitter": 0.5},),
        retention=({"pattern": "ü\x7f\n🙂", "kept": True},),
    )
    assert tomllib.loads(rules_text(options.rules)) == {
        "pool": [
            {"name": "gpu", "pattern": r"gpu-\d+", "max_running": 1, "lost_after": "45s"},
            {"name": "b", "pattern": '"b",c'},
        ],
        "limit": [{"pattern": "x{1,2}", "max_running": 0}],
        "weight": [{"pattern": "y", "weight": 3}],
        "default": [{"pattern": "z", "retryOn": ["75"], "backoffJitter": 0.5}],
        "retention": [{"pattern": "ü\x7f\n🙂", "kept": True}],
    }
    for spec in plan(options, AROUND, [agent(1)]):
        assert spec.env.get(f"EASYQ_{spec.kind.upper()}_RULES") == (
            "/d/rules.toml" if spec.kind in RULES_READERS else None
        )
        assert not any("gpu" in value for value in spec.env.values())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_can_be_written_as_toml(text: str) -> None:
    assert tomllib.loads(dump({"a": [{text: [text]}]})) == {"a": [{text: [text]}]}


@pytest.mark.parametrize("value", [None, "\udc80", {"a": 1}])
def test_what_toml_can_not_say(value: object) -> None:
    with pytest.raises(ValueError, match=r"written|surrogates"):
        dump({"a": [{"b": value}]})


@pytest.mark.parametrize("kind", RULES_READERS)
def test_whoever_is_told_of_the_rules_file_has_a_setting_for_it(kind: str) -> None:
    settings = getattr(importlib.import_module(f"easyq_{kind}.config"), f"{kind.title()}Settings")
    assert "rules" in settings.model_fields


def test_a_disk_that_is_almost_full_is_told() -> None:
    assert space_warning("/d", LEAST_FREE) == ""
    assert space_warning("/d", LEAST_FREE - 1).startswith("warning: only 99 MB are free on the disk of /d:")
    assert "only 0 MB" in space_warning("/d", 0)


NOTHING = Facts(
    default_url=STANDARD,
    default_is_chosen=False,
    default_answers=False,
    own_runs=False,
    own_is_forbidden=False,
    is_root=True,
    has_dockerd=True,
    can_install=True,
)


@pytest.mark.parametrize(
    ("facts", "own", "install"),
    [
        (NOTHING, True, False),
        (replace(NOTHING, has_dockerd=False), True, True),
        (replace(NOTHING, has_dockerd=False, can_install=False), False, False),
        (replace(NOTHING, is_root=False), False, False),
        (replace(NOTHING, own_is_forbidden=True), False, False),
        (replace(NOTHING, default_is_chosen=True), False, False),
        (replace(NOTHING, default_answers=True), False, False),
        (replace(NOTHING, default_answers=True, own_runs=True), True, False),
        (replace(NOTHING, default_answers=True, own_runs=True, own_is_forbidden=True), False, False),
        (replace(NOTHING, default_answers=None, default_is_chosen=True), False, False),
    ],
)
def test_which_engine(facts: Facts, own: bool, install: bool) -> None:
    choice = choose(facts)
    assert (choice.own, choice.install) == (own, install)
    if not facts.default_answers:
        assert STANDARD in choice.words + choice.missing
    if not own:
        assert "--docker-host" in choice.missing
        assert not choice.words


def test_an_engine_that_answers_needs_no_words() -> None:
    choice = choose(replace(NOTHING, default_answers=True))
    assert choice == Choice(missing=choice.missing)


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        (NOTHING, True),
        (replace(NOTHING, has_dockerd=False), True),
        (replace(NOTHING, has_dockerd=False, can_install=False), False),
        (replace(NOTHING, is_root=False), False),
        (replace(NOTHING, own_is_forbidden=True), False),
        (replace(NOTHING, default_is_chosen=True), False),
        (replace(NOTHING, own_runs=True), False),
    ],
)
def test_nobody_waits_for_an_engine_whose_answer_changes_nothing(facts: Facts, asked: bool) -> None:
    assert asks(facts) == asked


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose Docker config knows the context `far`."""
    meta = tmp_path / ".docker/contexts/meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Name": "far", "Endpoints": {"docker": {"Host": "ssh://far"}}}
    (meta / "meta.json").write_text(json.dumps(endpoint), encoding="utf-8")
    return tmp_path


def use_context(home: Path, text: str) -> None:
    (home / ".docker/config.json").write_text(text, encoding="utf-8")


def test_the_docker_host_of_the_docker_command(home: Path) -> None:
    assert default_docker_host({}, home) == STANDARD
    use_context(home, '{"currentContext": "far"}')
    assert default_docker_host({}, home) == "ssh://far"
    assert default_docker_host({"DOCKER_CONTEXT": "default"}, home) == STANDARD
    assert default_docker_host({"DOCKER_HOST": "tcp://x:1"}, home) == "tcp://x:1"
    use_context(home, '{"currentContext": "unknown"}')
    assert default_docker_host({}, home) == STANDARD
    assert default_docker_host({"DOCKER_CONTEXT": "far"}, home) == "ssh://far"
    assert default_docker_host({"DOCKER_CONTEXT": "far", "DOCKER_CONFIG": "/nowhere"}, home) == STANDARD


@pytest.mark.parametrize("text", ["", "[]", "{", '{"currentContext": 3}'])
def test_a_broken_docker_config_counts_as_none(home: Path, text: str) -> None:
    use_context(home, text)
    assert default_docker_host({}, home) == STANDARD


def test_who_is_told_of_errors_reaches_every_service_and_what_is_not_said_is_left_to_the_environment() -> None:
    quiet = plan(Options(), AROUND, [agent(1)])
    assert not [name for spec in quiet for name in spec.env if "SENTRY" in name or "ERROR" in name or "REPORT" in name]
    options = Options(error_handlers=("sentry", "file"), sentry_dsn="https://key@h/7", report_failures="final")
    for spec in plan(options, AROUND, [agent(1)]):
        if spec.kind == "redis":
            continue
        prefix = f"EASYQ_{spec.kind.upper()}_"
        assert spec.env[f"{prefix}ERROR_HANDLERS"] == "sentry,file"
        assert spec.env[f"{prefix}SENTRY_DSN"] == "https://key@h/7"
        assert f"{prefix}SENTRY_ENVIRONMENT" not in spec.env
        assert (f"{prefix}REPORT_FAILURES" in spec.env) is (spec.kind == "store")
        # `ps` shows arguments.
        assert "key" not in " ".join(spec.argv)


def test_a_level_for_one_service_holds_where_none_is_told_for_all() -> None:
    """Its variable would else be hidden by ours."""
    for options, told in ((Options(), set()), (Options(log_level="debug"), {"debug"})):
        levels = {
            value
            for spec in plan(options, AROUND, [agent(1)])
            for name, value in spec.env.items()
            if "LOG_LEVEL" in name
        }
        assert levels == told


def test_traces_go_where_all_services_send_theirs() -> None:
    told = plan(Options(otlp_endpoint="http://collector:4317", trace_ratio=0.25, trace_rate=12.5), AROUND, [agent(1)])
    for kind, name in (("gateway", "EASYQ_GATEWAY_TRACE_RATE"), ("store", "EASYQ_STORE_TRACE_RATE")):
        assert [spec.env[name] for spec in told if spec.kind == kind] == ["12.5"]
    for spec in told:
        prefix = f"EASYQ_{spec.kind.upper()}_"
        ours = spec.kind != "redis"
        assert spec.env.get(f"{prefix}OTLP_ENDPOINT") == ("http://collector:4317" if ours else None)
        assert spec.env.get(f"{prefix}TRACE_RATIO") == ("0.25" if ours else None)
    # What the services' own variables say holds where nothing is said here.
    names = {name for spec in plan(Options(), AROUND, [agent(1)]) for name in spec.env}
    assert not [name for name in names if "OTLP" in name or "TRACE" in name]
