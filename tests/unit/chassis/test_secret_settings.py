"""Whatever is wrong with a setting that holds a secret: the refusal names the setting, and repeats nothing of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from easyq.cli.group import root
from easyq_chassis.settings import load
from easyq_dispatcher.config import load as load_dispatcher
from easyq_gateway.config import GatewaySettings
from easyq_runner.config import RunnerSettings
from easyq_scheduler.config import SchedulerSettings
from easyq_store.config import StoreSettings

CANARY = "cnry0a1b2c3d"

SERVICES: dict[str, Callable[[list[str]], object]] = {
    "store": lambda argv: load(StoreSettings, argv, prog="easyq store"),
    "dispatcher": load_dispatcher,
    "scheduler": lambda argv: load(SchedulerSettings, argv, prog="easyq scheduler"),
    "runner": lambda argv: load(RunnerSettings, argv, prog="easyq runner"),
    "gateway": lambda argv: load(GatewaySettings, argv, prog="easyq gateway"),
}


@pytest.mark.parametrize(
    ("service", "variable", "value"),
    [
        ("store", "DATABASE", f"mysql://u:{CANARY}@h/"),
        ("dispatcher", "REDIS", f"http://u:{CANARY}@h/"),
        # What stands before the slash is the port, to whoever takes URLs apart.
        ("dispatcher", "REDIS", f"redis://:{CANARY}/x@h:6379/"),
        ("scheduler", "PUBLIC_URL", f"x://u:{CANARY}@h"),
        ("runner", "REGISTRY_AUTHS", f'{{"a": "{CANARY}"'),
        ("runner", "REGISTRY_AUTHS", f'{{"a": "{CANARY}"}}'),
        ("runner", "REGISTRY_AUTHS", f'["{CANARY}"]'),
        ("gateway", "STATUS_TIMEOUT", CANARY),
    ],
)
def test_services(
    service: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"EASYQ_{service.upper()}_{variable}", value)
    with pytest.raises(SystemExit) as ended:
        SERVICES[service]([])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert variable.lower() in told.lower()
    assert CANARY not in told


def test_a_password_without_a_mail_server_and_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(CANARY)
    monkeypatch.setenv("EASYQ_SCHEDULER_SMTP_PASSWORD", CANARY)
    # No setting, for a letter: that it has no effect is said by its name.
    monkeypatch.setenv("EASYQ_SCHEDULER_SMTP_PASSWORDS", CANARY)
    with pytest.raises(SystemExit):
        SERVICES["scheduler"](["--smtp-password-file", str(tmp_path / "password")])
    told = capsys.readouterr().err
    assert "EASYQ_SCHEDULER_SMTP_PASSWORDS is not a setting" in told
    assert CANARY not in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--redis", f"http://u:{CANARY}@h/"], ""),
        (["--mongo", f"http://u:{CANARY}@h/"], ""),
        (["--docker-host", f"http://u:{CANARY}@h/"], ""),
        ([], f'redis = "http://u:{CANARY}@h"\n'),
        ([], f'redis = "redis://u:{CANARY}@h\n'),
        ([], f'docker-host = ["x://u:{CANARY}@h"]\n'),
        ([], f'password = "{CANARY}"\n'),
    ],
)
def test_up(arguments: list[str], text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "easyq.toml"
    config.write_text(text)
    given = ["up", "--data", str(tmp_path / "data"), "--config", str(config), *arguments]
    outcome = CliRunner().invoke(root, given, prog_name="easyq")
    told = "".join(capfd.readouterr()) + outcome.output
    assert (outcome.exit_code, bool(told)) == (2, True), told
    assert CANARY not in told


@pytest.mark.parametrize("server", [f"http://u:{CANARY}@h:1", f"u:{CANARY}@h:1"])
def test_a_server_of_the_command_line(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = CliRunner().invoke(root, ["ps", "--server", server], prog_name="easyq")
    told = "".join(capfd.readouterr()) + outcome.output
    assert outcome.exit_code == 2
    assert "…@h:1" in told
    assert CANARY not in told
