import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from easyq_chassis.settings import ServiceSettings, load, unknown_variables


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="EASYQ_TEST_SERVICE_")

    listen: str = Field("127.0.0.1:1", description="Where to listen.")
    most_items: int = Field(5, ge=1, description="How many.")


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYQ_TEST_SERVICE_LISTEN", "from-env")
    monkeypatch.setenv("EASYQ_TEST_SERVICE_MOST_ITEMS", "7")
    settings = load(Settings, ["--most-items", "9"], prog="easyq test")
    assert (settings.listen, settings.most_items) == ("from-env", 9)


def test_a_wrong_setting_is_named_as_flag_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(Settings, ["--most-items", "0"], prog="easyq test")
    assert ended.value.code == 2
    assert "easyq test: --most-items (EASYQ_TEST_SERVICE_MOST_ITEMS): " in capsys.readouterr().err


def test_help_documents_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(Settings, ["--help"], prog="easyq test")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in Settings.model_fields)


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_variable_that_is_no_setting_is_told_with_what_was_meant() -> None:
    environment = {"EASYQ_TEST_SERVICE_LISTEN": "x", "EASYQ_TEST_SERVICE_MOST_ITEM": "7", "EASYQ_OTHER": "x"}
    assert unknown_variables(Settings, environment) == [
        "EASYQ_TEST_SERVICE_MOST_ITEM is not a setting and has no effect; did you mean EASYQ_TEST_SERVICE_MOST_ITEMS?"
    ]
