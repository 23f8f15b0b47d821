"""What `easyq up` understands: flags over a file over defaults, each mistake told by name."""

from typing import Any

import pytest

from easyq_supervisor.domain.options import OptionError, Options, merge
from easyq_supervisor.domain.rules import (
    DockerHost,
    Limit,
    Pool,
    check_together,
    deserted,
    parse_docker_host,
    parse_limit,
    parse_pool,
)


@pytest.mark.parametrize(
    ("text", "pool"),
    [
        ("gpu=gpu-.*", Pool(name="gpu", pattern="gpu-.*")),
        ("gpu=gpu-.*:3", Pool(name="gpu", pattern="gpu-.*", max_running=3)),
        ("a=x=y", Pool(name="a", pattern="x=y")),
        ("a=(?:b|c)", Pool(name="a", pattern="(?:b|c)")),
        ("a=(?:b|c):12", Pool(name="a", pattern="(?:b|c)", max_running=12)),
    ],
)
def test_pools(text: str, pool: Pool) -> None:
    assert parse_pool(text) == pool
    assert parse_pool(str(pool)) == pool


@pytest.mark.parametrize("text", ["x", "=a", "a=", "a b=c", "a=(", "a=b:0", "a=:3", "a=b:9999999", "-a=b"])
def test_what_is_no_pool(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_pool(text)


def test_limits() -> None:
    assert parse_limit("mail-.*=5") == Limit(pattern="mail-.*", max_running=5)
    assert parse_limit("a=b=5") == Limit(pattern="a=b", max_running=5)
    assert str(parse_limit("a=5")) == "a=5"


@pytest.mark.parametrize("text", ["a", "=5", "(=2", "a=", "a=0", "a=-1", "a=x", "a=٣"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) "):
        parse_limit(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("unix:///var/run/docker.sock", DockerHost(url="unix:///var/run/docker.sock")),
        ("gpu=tcp://10.0.0.1:2375", DockerHost(url="tcp://10.0.0.1:2375", pool="gpu")),
        ("unix:///a=b", DockerHost(url="unix:///a=b")),
    ],
)
def test_docker_hosts(text: str, host: DockerHost) -> None:
    assert parse_docker_host(text) == host


@pytest.mark.parametrize("text", ["/var/run/docker.sock", "gpu=", "=unix:///x", "ssh://x", "a b=unix:///x", ""])
def test_what_is_no_docker_host(text: str) -> None:
    with pytest.raises(ValueError, match="neither a URL"):
        parse_docker_host(text)


def test_nothing_asked_for_is_the_defaults() -> None:
    assert merge({"data": None, "pool": ()}, {}, "f") == Options()


def test_flags_win_over_the_file_and_lists_are_replaced_whole() -> None:
    file = {
        "data": "/from/file",
        "rest-port": 1,
        "grpc_port": 2,
        "pool": ["a=a-.*", "b=b-.*"],
        "limit": ["x=1"],
        "docker-host": ["a=unix:///s"],
        "slots": 9,
        "redis": "redis://r",
        "mongo": "mongodb://m",
        "engine": "none",
        "log-level": "debug",
        "grace": 5,
    }
    flags = {"rest_port": 0, "pool": ("a=z-.*",), "slots": None, "data": None, "limit": ()}
    options = merge(flags, file, "f")
    assert options == Options(
        data="/from/file",
        rest_port=0,
        grpc_port=2,
        pools=(Pool(name="a", pattern="z-.*"),),
        limits=(Limit(pattern="x", max_running=1),),
        docker_hosts=(DockerHost(url="unix:///s", pool="a"),),
        slots=9,
        redis="redis://r",
        mongo="mongodb://m",
        engine="none",
        log_level="debug",
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
        ({"pool": "a=b"}, "f: pool: must be a list of texts"),
        ({"pool": ["a"]}, "f: pool: 'a' is not NAME=REGEX"),
        ({"pool": [1]}, "f: pool: must be a text"),
        ({"limit": ["("]}, "f: limit: '\\(' is not REGEX=N"),
        ({"engine": "maybe"}, "f: engine: must be one of auto, none"),
        ({"redis": "localhost"}, "f: redis: must be a URL that begins with redis://"),
        ({"data": ""}, "f: data: must be a text that is not empty"),
        ({"pool": ["a=x", "a=y"]}, "the pool 'a' is named twice"),
        ({"pool": ["default=x"]}, "the pool 'default' is there by itself"),
        ({"limit": ["a=1", "a=2"]}, "'a' is limited twice"),
        ({"docker-host": ["gpu=unix:///s"]}, "no pool is named 'gpu' \\(for unix:///s\\)"),
        ({"docker-host": ["unix:///s", "unix:///s"]}, "unix:///s is named twice"),
    ],
)
def test_mistakes_are_told_by_name(file: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        merge({}, file, "f")


def test_mistakes_of_flags_name_the_flag() -> None:
    with pytest.raises(OptionError, match=r"--limit: '\(=2' has a broken regex"):
        merge({"limit": ("(=2",)}, {}, "f")
    with pytest.raises(OptionError, match="--grace"):
        merge({"grace": 0.5}, {}, "f")


def test_both_ports_may_be_free_ones() -> None:
    assert merge({"rest_port": 0, "grpc_port": 0}, {}, "f").grpc_port == 0


def test_together_without_problems() -> None:
    assert check_together((Pool(name="a", pattern="x"),), (), (DockerHost(url="unix:///s", pool="a"),)) == []


def test_a_pool_that_no_agent_joins_is_told() -> None:
    gpu, cpu = Pool(name="gpu", pattern="gpu-.*", max_running=2), Pool(name="cpu", pattern="x")
    hosts = (DockerHost(url="unix:///s"), DockerHost(url="unix:///t", pool="cpu"))
    [warning] = deserted((gpu, cpu), hosts)
    assert warning.startswith("warning: no agent joins the pool 'gpu'")
    assert "'gpu-.*'" in warning
    assert "--docker-host gpu=URL" in warning
    assert deserted((cpu,), hosts) == []
    assert deserted((), ()) == []
