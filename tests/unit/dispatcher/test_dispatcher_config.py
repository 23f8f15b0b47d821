"""Settings: read from flags and environment, refused early with the setting's name."""

from __future__ import annotations

import pytest

from easyq_dispatcher.config import load
from easyq_dispatcher.domain.rules import Additions


def test_defaults() -> None:
    settings = load([])
    matching, _ = settings.matching(Additions())
    assert [pool.name for pool in matching.pools] == ["default"]
    assert matching.pools[0].lost_after_ms == 120_000
    assert (settings.beat_every, settings.lease) == (5.0, 15.0)


def test_flags_may_be_repeated_and_regexes_may_have_commas() -> None:
    settings = load(
        ["--pool", "mail=[a-m]{1,3}:5", "--pools=gpu=(x|y),z", "--limit", "[.]*=9", "--limit", "a{1,2}=3", "--farm=f"]
    )
    assert settings.pools == ("mail=[a-m]{1,3}:5", "gpu=(x|y),z")
    assert settings.limits == ("[.]*=9", "a{1,2}=3")
    assert settings.farm == "f"
    assert settings.matching(Additions())[0].route("abc").pool == "mail"


@pytest.mark.parametrize("text", ["mail=m{1,2}\n\n  gpu=g  \n", '["mail=m{1,2}", "gpu=g"]'])
def test_the_variable_has_lines_or_a_list(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYQ_DISPATCHER_POOLS", text)
    assert load([]).pools == ("mail=m{1,2}", "gpu=g")
    assert load(["--pool", "x=y"]).pools == ("x=y",)


def test_a_list_of_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("[1]", "[", '{"a": 1}'):
        monkeypatch.setenv("EASYQ_DISPATCHER_POOLS", text)
        with pytest.raises(SystemExit):
            load([])
        assert "EASYQ_DISPATCHER_POOLS" in capsys.readouterr().err


def test_lost_after_by_pool() -> None:
    settings = load(["--pool", "mail=m", "--lost-after", "2m", "--pool-lost-after", "mail=45s"])
    mail, default = settings.matching(Additions())[0].pools
    assert (mail.lost_after_ms, default.lost_after_ms) == (45_000, 120_000)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--pool", "mail=[a"], "--pools (EASYQ_DISPATCHER_POOLS)"),
        (["--pool", "mail=a", "--pool", "mail=b"], "mail is given twice"),
        (["--limit", "x"], "--limits (EASYQ_DISPATCHER_LIMITS)"),
        (["--lost-after", "soon"], "--lost-after"),
        (["--lost-after", "20ms"], "--lost-after"),
        (["--pool-lost-after", "default"], "NAME=DURATION"),
        (["--pool-lost-after", "default=x"], "default=x"),
        (["--pool-lost-after", "nobody=60s"], "no pool named nobody"),
        (["--pool", "x", "--pool-lost-after", "x=60s"], "--pools"),
        (["--lease", "5"], "longer than beat_every"),
        (["--lost-after", "15s"], "shorter than every lost_after"),
        (["--pool-lost-after", "default=15s"], "shorter than every lost_after"),
        (["--beat-every", "0"], "--beat-every"),
        (["--pool"], "--pool"),
    ],
)
def test_wrong_settings_are_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
