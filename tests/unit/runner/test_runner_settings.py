"""Settings of the runner."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from easyq_chassis.settings import load
from easyq_runner.config import RunnerSettings, find_docker


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("EASYQ_", "DOCKER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def read(*argv: str) -> RunnerSettings:
    return load(RunnerSettings, list(argv), prog="easyq runner")


def test_defaults_allow_nothing() -> None:
    settings = read()
    assert (settings.pools, settings.allowed_mounts) == (("default",), ())
    switches = (settings.allow_devices, settings.allow_host_network, settings.allow_privileged, settings.allow_volumes)
    assert not any(switches)
    assert settings.slots >= 2


def test_by_flags_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EASYQ_RUNNER_DISPATCHERS", "a:1, b:2")
    monkeypatch.setenv("EASYQ_RUNNER_LABELS", "zone=x,disk=ssd")
    monkeypatch.setenv("EASYQ_RUNNER_REGISTRY_AUTHS", '{"reg:5000": "user:pass:word"}')
    (tmp_path / "link").symlink_to("/usr")
    settings = read("--slots", "7", "--pools", "gpu,default", "--allowed-mounts", f"/data,{tmp_path}/link")
    assert settings.dispatchers == ("a:1", "b:2")
    assert settings.labels == {"zone": "x", "disk": "ssd"}
    assert settings.credentials() == {"reg:5000": ("user", "pass:word")}
    assert (settings.slots, settings.pools, settings.allowed_mounts) == (7, ("gpu", "default"), ("/data", "/usr"))
    assert "pass:word" not in repr(settings)


def test_sizes_and_offers() -> None:
    settings = read("--cpus", "3.5", "--memory", "14g", "--gpus", "2", "--image-cache", "20g", "--min-free-disk", "0")
    assert (settings.cpus, settings.memory, settings.gpus) == (3.5, 14 << 30, 2)
    assert (settings.image_cache, settings.min_free_disk) == (20 << 30, 0)
    assert (read().cpus, read().memory, read().gpus, read().image_cache) == (None, None, 0, 0)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--cpus", "0"),
        ("--memory", "lots"),
        ("--memory", "0"),
        ("--gpus", "-1"),
        ("--image-cache", "20x"),
        ("--orphan-after", "0"),
        ("--monitor-backoff-max", "0"),
        ("--slots", "0"),
        ("--agent-id", "a b"),
        ("--labels", "zone"),
        ("--allowed-mounts", "data"),
        ("--registry-auths", '{"r": "no-colon"}'),
        ("--dispatchers", ""),
    ],
)
def test_what_is_refused_at_once(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read(flag, value)
    assert flag.rsplit("-", maxsplit=1)[-1].upper() in capsys.readouterr().err


def test_engine_that_the_settings_name(tmp_path: Path) -> None:
    address = find_docker(read("--docker-host", "tcp://a:2376", "--docker-tls", str(tmp_path)), {"DOCKER_HOST": "x"})
    assert address.url == "tcp://a:2376"
    assert address.tls == (f"{tmp_path}/ca.pem", f"{tmp_path}/cert.pem", f"{tmp_path}/key.pem")
    assert find_docker(read("--docker-host", "tcp://a:2375"), {"DOCKER_CERT_PATH": "/c"}).tls is None


def test_engine_that_the_environment_names() -> None:
    address = find_docker(read(), {"DOCKER_HOST": "tcp://b:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"})
    assert (address.url, address.tls) == ("tcp://b:2376", ("/c/ca.pem", "/c/cert.pem", "/c/key.pem"))
    assert find_docker(read(), {"DOCKER_HOST": "unix:///x"}).tls is None


def test_engine_of_the_docker_commands_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_docker(read(), {}).url == "unix:///var/run/docker.sock"
    meta = tmp_path / ".docker/contexts/meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Host": "tcp://far:2375", "SkipTLSVerify": True}
    described = {"Name": "far", "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (meta / "meta.json").write_text(json.dumps(described), encoding="ascii")
    (tmp_path / ".docker/config.json").write_text('{"currentContext": "far"}', encoding="ascii")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
    assert find_docker(read(), {}).url == "tcp://far:2375"
