"""What `easyq up` understands: flags over a file over defaults, each mistake told by name."""

from collections.abc import Mapping
from typing import Any

import pytest

from easyq_chassis.rules_file import contract
from easyq_supervisor.domain import options as options_module
from easyq_supervisor.domain.checks import without_secret
from easyq_supervisor.domain.hosts import DockerHost, Offer, check_hosts, deserted, read_docker_host
from easyq_supervisor.domain.options import OptionError, Options
from easyq_supervisor.domain.rules import Rules, Table, read_limit, read_pool


def merge(flags: Mapping[str, Any], file: Mapping[str, Any], source: str) -> Options:
    return options_module.merge(flags, file, source, contract.check)


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("gpu=gpu-.*", {"name": "gpu", "pattern": "gpu-.*"}),
        ("gpu=gpu-.*:3", {"name": "gpu", "pattern": "gpu-.*", "max_running": 3}),
        ("a=x=y", {"name": "a", "pattern": "x=y"}),
        ("a=(?:b|c)", {"name": "a", "pattern": "(?:b|c)"}),
        ("a=(?:b|c):12", {"name": "a", "pattern": "(?:b|c)", "max_running": 12}),
    ],
)
def test_pools(text: str, pool: Table) -> None:
    assert read_pool(text) == pool


@pytest.mark.parametrize("text", ["x", "=a", "a=", "a b=c", "a=(", "a=b:0", "a=:3", "a=b:9999999", "-a=b"])
def test_what_is_no_pool(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--pool: "):
        merge({"pool": (text,)}, {}, "f")


def test_limits() -> None:
    assert read_limit("mail-.*=5") == {"pattern": "mail-.*", "max_running": 5}
    assert read_limit("a=b=5") == {"pattern": "a=b", "max_running": 5}
    assert read_limit("a=0") == {"pattern": "a", "max_running": 0}


@pytest.mark.parametrize("text", ["a", "=5", "(=2", "a=", "a=-1", "a=x", "a=٣"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(OptionError, match=r"^--limit: "):
        merge({"limit": (text,)}, {}, "f")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///var/run/docker.sock", DockerHost(url="unix:///var/run/docker.sock")),
        ("gpu=tcp://10.0.0.1:2375", DockerHost(url="tcp://10.0.0.1:2375", pools=("gpu",))),
        ("unix:///a=b", DockerHost(url="unix:///a=b")),
    ],
)
def test_docker_hosts(text: str, host: DockerHost) -> None:
    assert read_docker_host(text) == host


@pytest.mark.parametrize("text", ["/var/run/docker.sock", "gpu=", "=unix:///x", "ssh://x", "a b=unix:///x", ""])
def test_what_is_no_docker_host(text: str) -> None:
    with pytest.raises(ValueError, match="neither a URL"):
        read_docker_host(text)
    with pytest.raises(ValueError, match="neither a text nor a table"):
        read_docker_host(3)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("tcp://h:1", "tcp://h:1"),
        ("gpu=http://me:pa ss@h:1/", "gpu=http://***@h:1/"),
        ("tcp://me:p@s://s@h", "tcp://***@h"),
        ("me:pass@h", "***@h"),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ("/run/a@b.sock", "/run/a@b.sock"),
        ("", ""),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_secret(address) == shown


def test_nothing_asked_for_is_the_defaults() -> None:
    assert merge({"data": None, "pool": ()}, {}, "f") == Options()


def test_flags_win_over_the_file_and_lists_are_replaced_whole() -> None:
    file = {
        "data": "/from/file",
        "rest-port": 1,
        "grpc_port": 2,
        "metrics-port": 3,
        "pool": ["a=a-.*", "b=b-.*"],
        "limit": ["x=1"],
        "docker-host": ["a=unix:///s"],
        "slots": 9,
        "redis": "redis://r",
        "mongo": "mongodb://m",
        "engine": "none",
        "log-level": "debug",
        "log-format": "json",
        "grace": 5,
    }
    flags = {"rest_port": 0, "pool": ("a=z-.*",), "slots": None, "data": None, "limit": ()}
    options = merge(flags, file, "f")
    assert options == Options(
        data="/from/file",
        rest_port=0,
        grpc_port=2,
        metrics_port=3,
        pools=({"name": "a", "pattern": "z-.*"},),
        limits=({"pattern": "x", "max_running": 1},),
        docker_hosts=(DockerHost(url="unix:///s", pools=("a",)),),
        slots=9,
        redis="redis://r",
        mongo="mongodb://m",
        engine="none",
        log_level="debug",
        log_format="json",
        grace=5.0,
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"rest-prot": 1}, "f: 'rest-prot' is no setting of easyq up"),
        ({"rest-port": 1, "rest_port": 1}, "f: 'rest_port' is there twice"),
        ({"rest-port": 65536}, "f: rest-port: must be an integer between 0 and 65535"),
        ({"rest-port": "1"}, "f: rest-port: must be an integer"),
        ({"rest-port": True}, "f: rest-port: must be an integer"),
        ({"rest-port": 7000, "grpc-port": 7000}, "--rest-port and --grpc-port are both 7000"),
        ({"slots": 0}, "f: slots: must be an integer between 1"),
        ({"grace": "soon"}, "f: grace: must be a number of seconds"),
        ({"grace": True}, "f: grace: must be a number of seconds"),
        ({"pool": "a=b"}, "f: pool: must be a list of texts or of tables"),
        ({"pool": ["a"]}, "f: pool: 'a' is not NAME=REGEX"),
        ({"pool": [1]}, "f: pool: must be a text"),
        ({"limit": ["("]}, "f: limit: '\\(' is not REGEX=N"),
        ({"engine": "maybe"}, "f: engine: must be one of auto, none"),
        ({"redis": "localhost"}, "f: redis: must be a URL that begins with redis://"),
        ({"data": ""}, "f: data: must be a text that is not empty"),
        ({"pool": ["a=x", "a=y"]}, r"f: pool\[1\].name 'a' is there twice"),
        ({"pool": ["default=x"]}, r"f: pool\[0\].pattern can only be"),
        ({"limit": ["a=1", "a=2"]}, r"f: limit\[1\].pattern 'a' is there twice"),
        ({"docker-host": ["gpu=unix:///s"]}, "no pool is named 'gpu' \\(for unix:///s\\)"),
        ({"docker-host": ["unix:///s", "unix:///s"]}, "unix:///s is named twice"),
        ({"docker-host": ["tcp://me:pass@h:1", "tcp://me:pass@h:1"]}, r"tcp://\*\*\*@h:1 is named twice"),
        ({"docker-host": ["gpu=tcp://me:pass@h:1"]}, r"no pool is named 'gpu' \(for tcp://\*\*\*@h:1\)"),
    ],
)
def test_mistakes_are_told_by_name(file: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        merge({}, file, "f")


def test_rules_may_stand_in_tables() -> None:
    file: dict[str, list[Any]] = {
        "pool": [
            {"name": "gpu", "pattern": "gpu-.*", "max-running": 2, "lost_after": "45s"},
            {"name": "default"},
            "b=b",
        ],
        "limit": [{"pattern": "mail", "max_running": 0}, "x=1"],
        "weight": [{"pattern": "fast-.*", "weight": 5}, "y=2"],
        "default": [{"pattern": "mail", "retries": 3, "backoffMin": "2s", "retryOn": ["75", "oom"], "timeout": 60}],
        "retention": [{"pattern": ".*", "succeeded": "30d", "failed": "", "logs": 5, "failed_count": 5}],
    }
    options = merge({}, file, "f")
    assert options.rules == Rules(
        pools=(
            {"name": "gpu", "pattern": "gpu-.*", "max_running": 2, "lost_after": "45s"},
            {"name": "default", "pattern": ".*"},
            {"name": "b", "pattern": "b"},
        ),
        limits=({"pattern": "mail", "max_running": 0}, {"pattern": "x", "max_running": 1}),
        weights=({"pattern": "fast-.*", "weight": 5}, {"pattern": "y", "weight": 2}),
        defaults=tuple(file["default"]),
        retention=tuple(file["retention"]),
    )
    # A flag replaces what stands in tables as it does a list of texts.
    assert merge({"weight": ("z=3",)}, file, "f").weights == ({"pattern": "z", "weight": 3},)


def test_what_an_agent_offers() -> None:
    file = {
        "slots": 9,
        "label": {"zone": "a", "disk": "ssd"},
        "memory": 1024,
        "docker_host": [
            "unix:///s",
            {
                "url": "unix:///t",
                "pool": ["gpu", "default"],
                "name": "big",
                "slots": 2,
                "labels": ["zone=b", "gpu=a100"],
                "cpus": 3.5,
                "memory": "14g",
                "gpus": 4,
                "image-cache": "20g",
            },
        ],
        "pool": ["gpu=g"],
    }
    options = merge({"gpus": 1}, file, "f")
    plain, big = options.docker_hosts
    assert plain == DockerHost(url="unix:///s", offer=Offer())
    assert (big.pools, big.name) == (("gpu", "default"), "big")
    assert plain.offer.settings(options.offer) == {
        "slots": "9",
        "labels": "zone=a,disk=ssd",
        "memory": "1024",
        "gpus": "1",
    }
    assert big.offer.settings(options.offer) == {
        "slots": "2",
        "labels": "zone=b,disk=ssd,gpu=a100",
        "cpus": "3.5",
        "memory": "14g",
        "gpus": "4",
        "image_cache": "20g",
    }


TABLE = "f: docker_host: table 1: "


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ({"pool": [{"name": "a"}]}, "f: pool[0] has no pattern"),
        ({"pool": [{"name": "a", "pattern": "x", "max": 1}]}, "f: pool[0].max is none of name, p"),
        (
            {"pool": [{"name": "a", "pattern": "x", "max_running": 0}]},
            "f: pool[0].max_running must be a whole number from 1",
        ),
        ({"pool": [{"name": "a b", "pattern": "x"}]}, "f: pool[0].name is no pool's name"),
        ({"pool": [{"name": "a", "pattern": 3}]}, "f: pool[0].pattern must be a regex"),
        ({"pool": [{"name": "a", "pattern": "x", "lost-after": "soon"}]}, "lost_after is not a duration"),
        ({"pool": [{"name": "a", "pattern": "x", "lost-after": "10ms"}]}, "lost_after '10ms' is less than a second"),
        ({"pool": [{"name": "a", "pattern": "x", "lost_after": 5}]}, "lost_after must be a duration as text"),
        ({"pool": [{"name": "default", "pattern": "x"}]}, "f: pool[0].pattern can only be"),
        ({"limit": [{"pattern": "("}]}, "f: limit[0].pattern '(' is no regex"),
        ({"limit": [{"pattern": "a"}]}, "f: limit[0] has no max_running"),
        ({"weight": [{"pattern": "a", "weight": 1001}]}, "f: weight[0].weight must be a whole number from 1 to 1000"),
        ({"weight": ["a=0"]}, "f: weight[0].weight must be a whole number from 1 to 1000"),
        ({"weight": ["a=1", "a=2"]}, "f: weight[1].pattern 'a' is there twice"),
        ({"default": [{"retries": 3}]}, "f: default[0] has no pattern"),
        ({"default": [{"pattern": "a", "backoff_min": "1s"}]}, "f: default[0].backoff_min is none of pattern, retries"),
        ({"default": [{"pattern": "a", "timeout": "x"}]}, "f: default[0].timeout is not a duration"),
        (
            {"default": [{"pattern": "a", "backoffFactor": 0.5}]},
            "f: default[0].backoffFactor must be a number from 1 to 100",
        ),
        ({"default": [{"pattern": "a", "retryOn": "75"}]}, "f: default[0].retryOn must be a list of"),
        ({"default": [{"pattern": "a"}, {"pattern": "a"}]}, "f: default[1].pattern 'a' is there twice"),
        ({"default": ["a"]}, "f: default: 'a' is no table"),
        ({"retention": ["a"]}, "f: retention: 'a' is no table"),
        ({"limit": [{"max-running": 1, "max_running": 1}]}, "f: limit: table 1: has 'max_running' twice"),
        ({"retention": [{"logs": "1d"}]}, "f: retention[0] has no pattern"),
        ({"label": ["x"]}, "f: label: has 'x', which is not KEY=VALUE"),
        ({"label": "x=y"}, "f: label: must be a table, or a list of KEY=VALUE"),
        ({"label": {"a": 1}}, "must have texts for keys and values, not 'a' and 1"),
        ({"label": {"a": "x,y"}}, "'a=x,y': neither may have commas"),
        ({"label": ["a=1", "a=2"]}, "f: label: has 'a' twice"),
        ({"memory": "much"}, "f: memory: must be a number of bytes, or a size"),
        ({"memory": True}, "f: memory: must be a number of bytes"),
        ({"cpus": 0}, "f: cpus: must be a number between 0.001"),
        ({"docker_host": [{"pool": "default"}]}, TABLE + "has no url"),
        ({"docker_host": [{"url": "unix:///x", "slot": 1}]}, TABLE + "has 'slot', which is none of url, pool, name"),
        ({"docker_host": [{"url": "/x"}]}, TABLE + "url must be a URL"),
        ({"docker_host": [{"url": "unix:///x", "pool": []}]}, TABLE + "pool must be a pool's name, or a list"),
        ({"docker_host": [{"url": "unix:///x", "pool": "gpu"}]}, "no pool is named 'gpu'"),
        ({"docker_host": [{"url": "unix:///x", "name": "-a"}]}, TABLE + "name must have letters"),
        ({"docker_host": [{"url": "unix:///x", "gpus": -1}]}, TABLE + "gpus must be an integer"),
        ({"docker_host": [{"url": f"unix:///{n}", "name": "a"} for n in "xy"]}, "two agents are named 'a'"),
        ({"docker_host": [{"url": "unix:///x", "image_cache": "1g", "image-cache": "1g"}]}, "has 'image-cache' twice"),
    ],
)
def test_mistakes_in_tables_are_told_by_name(file: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as error:
        merge({}, file, "f")
    assert said in str(error.value)


def test_mistakes_of_flags_name_the_flag() -> None:
    with pytest.raises(OptionError, match=r"--limit: limit\[0\].pattern '\(' is no regex"):
        merge({"limit": ("(=2",)}, {}, "f")
    with pytest.raises(OptionError, match="--grace"):
        merge({"grace": 0.5}, {}, "f")


def test_both_ports_may_be_free_ones() -> None:
    assert merge({"rest_port": 0, "grpc_port": 0}, {}, "f").grpc_port == 0


def test_together_without_problems() -> None:
    assert check_hosts((DockerHost(url="unix:///s", pools=("a", "default")),), ({"name": "a", "pattern": "x"},)) == []


def test_a_pool_that_no_agent_joins_is_told() -> None:
    gpu, cpu = {"name": "gpu", "pattern": "gpu-.*", "max_running": 2}, {"name": "cpu", "pattern": "x"}
    hosts = (DockerHost(url="unix:///s"), DockerHost(url="unix:///t", pools=("cpu",)))
    [warning] = deserted((gpu, cpu), hosts)
    assert warning.startswith("warning: no agent joins the pool 'gpu'")
    assert "'gpu-.*'" in warning
    assert "--docker-host gpu=URL" in warning
    assert deserted((cpu,), hosts) == []
    assert deserted((), ()) == []


# ------------------------------------------------------------------------------------------------------ error handlers
def test_who_is_told_of_errors() -> None:
    file = {
        "error-handler": ["sentry", "file"],
        "sentry-dsn": "https://key@sentry.test/7",
        "sentry-environment": "staging",
        "report-failures": "final",
    }
    told = merge({"report_failures": "all"}, file, "f")
    assert (told.error_handlers, told.sentry_dsn) == (("sentry", "file"), "https://key@sentry.test/7")
    assert (told.sentry_environment, told.report_failures) == ("staging", "all")
    assert "key@" not in repr(told)


@pytest.mark.parametrize("dsn", ["canary", "https://canary@h/project", "ftp://canary@h/7", "https://h/7"])
def test_a_wrong_dsn_is_not_repeated(dsn: str) -> None:
    with pytest.raises(OptionError, match="sentry-dsn: must be like") as refused:
        merge({"sentry_dsn": dsn}, {}, "f")
    assert "canary" not in str(refused.value)
