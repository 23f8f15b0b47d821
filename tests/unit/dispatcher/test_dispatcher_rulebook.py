"""The file of rules: what it may have, when it is read, and how dispatchers agree on the newest."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from easyq_dispatcher import rules_file
from easyq_dispatcher.adapters.rules_source import RulesFile
from easyq_dispatcher.config import load
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.rules import Additions, RuleError, build_matching, parse_weight
from easyq_dispatcher.ports import RulesText
from easyq_dispatcher.usecases.rulebook import Rulebook
from tests.unit.dispatcher.rig import Agent, Core, ManualClock, Rig

FULL = """
[[pool]]
name = "mail"
pattern = "mail-.*"
max_running = 5
lost_after = "45s"

[[pool]]
name = "gpu"
pattern = "gpu-.*"

[[limit]]
pattern = ".*-slow"
max_running = 0

[[weight]]
pattern = "mail-.*"
weight = 4

[[default]]
pattern = "read by another service"
"""


# ------------------------------------------------------------------------------------------------------------ its text
def build(text: str, *, pools: tuple[str, ...] = (), limits: tuple[str, ...] = ()) -> Matching:
    weights = ("mail-.*=2", "x=3")
    added = rules_file.parse(text)
    return build_matching(pools, limits, weights=weights, lost_after_ms=9, lost_after_by_pool={}, added=added)


def test_all_that_a_file_may_have() -> None:
    matching = build(FULL)
    assert [(p.name, p.pattern, p.max_running, p.lost_after_ms) for p in matching.pools] == [
        ("mail", "mail-.*", 5, 45_000),
        ("gpu", "gpu-.*", 0, 9),
        ("default", ".*", 0, 9),
    ]
    assert [(limit.pattern, limit.max_running) for limit in matching.limits] == [(".*-slow", 0)]
    assert [(rule.pattern, rule.weight) for rule in matching.weights] == [("mail-.*", 4), ("x", 3)]
    assert matching.route("mail-slow").weight == 4
    assert matching.route("other").weight == 1
    assert rules_file.parse("") == Additions()


def test_it_comes_before_the_flags_and_replaces_what_has_its_name() -> None:
    matching = build(FULL, pools=("all=.*", "mail=old"), limits=("a=1", ".*-slow=7"))
    assert [pool.name for pool in matching.pools] == ["mail", "gpu", "all", "default"]
    assert matching.pool_by_name["mail"].pattern == "mail-.*"
    assert [(limit.pattern, limit.max_running) for limit in matching.limits] == [(".*-slow", 0), ("a", 1)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[pool]", "not TOML"),
        ("[[pools]]", "there is no pools"),
        ("limit = 3", "list of tables"),
        ("[limit]\npattern = 'a'", "list of tables"),
        ("[[limit]]\npattern = 'a'", "limit 1: max_running is missing"),
        ("[[limit]]\npattern = 'a'\nmax_running = '3'", "max_running has to be a whole number"),
        ("[[limit]]\npattern = 'a'\nmax_running = true", "max_running has to be a whole number"),
        ("[[limit]]\npattern = 3\nmax_running = 3", "pattern has to be text"),
        ("[[limit]]\npattern = '['\nmax_running = 3", "not a regular expression"),
        ("[[limit]]\npattern = 'a'\nmax_running = -1", "limit is 0 to"),
        ("[[limit]]\npattern = 'a'\nmax_running = 1\n[[limit]]\npattern = 'a'\nmax_running = 2", "given twice"),
        ("[[limit]]\npattern = 'a'\nmax = 1\nmax_running = 2", "there is no max"),
        ("[[pool]]\nname = 'a b'\npattern = 'a'", "a pool's name"),
        ("[[pool]]\nname = 'default'\npattern = 'a'", "serves all that is left"),
        ("[[pool]]\nname = 'a'\npattern = 'a'\nmax_running = -1", "the maximum"),
        ("[[pool]]\nname = 'a'\npattern = 'a'\nlost_after = 'soon'", "pool a: lost_after"),
        ("[[pool]]\nname = 'a'\npattern = 'a'\nlost_after = '3ms'", "less than a second"),
        ("[[weight]]\npattern = 'a'\nweight = 0", "weight is 1 to"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(RuleError, match=told.replace("(", r"\(")):
        build(text)


@pytest.mark.parametrize("text", ["a", "=3", "a=0", "a=1001", "a=x", "[=3"])
def test_wrong_weights_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(RuleError, match=re.escape(repr(text))):
        parse_weight(text)


# ------------------------------------------------------------------------------------------------------------ settings
def test_a_file_is_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(FULL)
    settings = load(["--rules", str(file), "--weight", "a{1,2}=7", "--pool", "x=y"])
    assert settings.weights == ("a{1,2}=7",)
    assert [pool.name for pool in settings.matching(FULL).pools] == ["mail", "gpu", "x", "default"]
    assert [pool.name for pool in settings.matching().pools] == ["x", "default"]
    assert (settings.patience().failures, settings.patience().wait_ms) == (3, 5_000)


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        (None, [], "No such file"),
        ("[[limit]]", [], "max_running"),
        ("[[pool]]\nname = 'a'\npattern = 'a'\nlost_after = '15s'", [], "longer than the lease"),
        ("\ud800", [], "--rules"),
    ],
)
def test_a_wrong_file_is_refused_at_the_start(
    text: str | None, arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.toml"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SystemExit):
        load(["--rules", str(file), *arguments])
    said = capsys.readouterr().err
    assert told in said
    assert "--rules (EASYQ_DISPATCHER_RULES)" in said


def test_wrong_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--weight", "a=0"])
    assert "--weights (EASYQ_DISPATCHER_WEIGHTS)" in capsys.readouterr().err


def test_a_file_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    source = RulesFile(str(file))
    assert source.stamp() is None
    file.write_text("a")
    os.utime(file, ns=(0, 5_000_000_000))
    stamp = source.stamp()
    assert source.read() == RulesText(text="a", changed_ms=5_000)
    file.write_text("b")
    assert source.stamp() != stamp
    assert str(source) == str(file)


# -------------------------------------------------------------------------------------------------------------- a file
class Source:
    """A file that a test writes."""

    def __init__(self, text: str = "", changed_ms: int = 100) -> None:
        self.text, self.changed_ms, self.number, self.missing = text, changed_ms, 0, False

    def write(self, limit: int | str, changed_ms: int | None = None) -> None:
        self.text = limit if isinstance(limit, str) else limited(limit)
        self.changed_ms = self.changed_ms + 1_000 if changed_ms is None else changed_ms
        self.number += 1

    def stamp(self) -> tuple[int, int, int] | None:
        return None if self.missing else (self.changed_ms, len(self.text), self.number)

    def read(self) -> RulesText:
        if self.missing:
            raise FileNotFoundError(2, "No such file or directory")
        return RulesText(text=self.text, changed_ms=self.changed_ms)

    def __str__(self) -> str:
        return "rules.toml"


def limited(most: int) -> str:
    return f"[[limit]]\npattern = 't'\nmax_running = {most}\n"


def book(source: Source | None) -> Rulebook:
    return Rulebook(build=build, source=source, clock=ManualClock())


def limit_of(rules: Rulebook) -> int:
    return rules.matching.limits[0].max_running


async def looks(rules: Rulebook) -> bool:
    """Two looks, as nobody writes it any more; whether there are new rules."""
    await rules.run_once()
    await rules.run_once()
    return rules.turn_page()


async def test_a_changed_file_is_read_once_it_is_written() -> None:
    source = Source(limited(1))
    rules = book(source)
    assert (limit_of(rules), rules.version) == (1, 100)
    assert not await looks(rules)
    source.write(2)
    turned: list[bool] = []
    rules.turned = lambda: turned.append(True)
    await rules.run_once()
    # It may be half of it: one more look.
    source.write(3)
    await rules.run_once()
    assert not turned
    await rules.run_once()
    assert (limit_of(rules), turned) == (1, [True])
    assert rules.turn_page()
    assert (limit_of(rules), rules.version) == (3, 2_100)
    assert not rules.turn_page()


async def test_a_wrong_file_is_refused_once_and_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source(limited(1))
    rules = book(source)
    for text in ("[[limit", limited(-1)):
        source.write(text)
        for _ in range(3):
            assert not await looks(rules)
        assert "rules.toml: " in rules.problem
        assert limit_of(rules) == 1
    assert capsys.readouterr().out.count("rules_refused") == 2
    source.missing = True
    assert not await looks(rules)
    assert "No such file" in rules.problem
    source.missing = False
    source.write(limited(1))
    assert not await looks(rules)
    assert rules.problem == ""


async def test_a_signal_has_it_read_at_once() -> None:
    source = Source(limited(1))
    rules = book(source)
    source.write(2)
    rules.reload()
    assert rules.turn_page()
    assert limit_of(rules) == 2
    rules.reload()
    assert not rules.turn_page()
    without = book(None)
    without.reload()
    assert not await looks(without)
    assert without.version == 0


async def test_a_file_that_was_put_back_is_newer_nevertheless() -> None:
    source = Source(limited(1), changed_ms=5_000)
    rules = book(source)
    source.write(2, changed_ms=3_000)
    rules.reload()
    assert rules.version == 5_001


# --------------------------------------------------------------------------------------------------------- dispatchers
async def settled(*cores: Core) -> None:
    for _ in range(4):
        for core in cores:
            await core.keeper.run_once()


async def test_new_rules_hold_for_what_runs_already() -> None:
    rig, source = Rig(), Source(limited(1))
    core, agent = rig.dispatcher(rules=book(source)), Agent("a", 9)
    await core.step()
    await agent.connect(core)
    rig.farm.submit("t", 5)
    rig.clock.seconds += 1
    await core.step()
    assert len(agent.running) == 1
    source.write(3)
    core.rules.reload()
    await core.step()
    assert len(agent.running) == 3
    assert (await core.words.standing()).limits[0].limit.max_running == 3
    source.write(2)
    core.rules.reload()
    await core.step()
    agent.finish(*list(agent.running)[:1])
    await core.step()
    assert len(agent.running) == 2
    assert rig.farm.most_held["t"] == 3


async def test_dispatchers_that_read_a_file_at_different_moments_agree() -> None:
    rig, files = Rig(), (Source(limited(1)), Source(limited(1)))
    one, two = (rig.dispatcher(f"d{number}", rules=book(files[number])) for number in (0, 1))
    await settled(one, two)
    generation = rig.farm.number
    for file in files:
        file.write(2)
    one.rules.reload()
    await settled(one, two)
    # The other has older rules: it waits, and undoes nothing.
    assert (one.keeper.generation, two.keeper.generation) == (generation + 1, None)
    assert "other pools or limits" in two.keeper.problem
    two.rules.reload()
    await settled(one, two)
    assert one.keeper.generation == two.keeper.generation == rig.farm.number == generation + 1


async def test_newer_rules_win_whoever_has_them() -> None:
    rig = Rig()
    one, two = (
        rig.dispatcher("d1", rules=book(Source(limited(1), 900))),
        rig.dispatcher("d2", rules=book(Source(limited(2), 500))),
    )
    await settled(one)
    # It starts later, and with an older file.
    await settled(two, one, two)
    assert (one.keeper.generation, two.keeper.generation) == (2, None)
    # Nobody works with the newer ones any more.
    rig.clock.seconds += 11
    await settled(two)
    assert two.keeper.generation == rig.farm.number == 3


async def test_a_dispatcher_without_a_file_does_not_fight_one_that_has() -> None:
    rig = Rig()
    filed, plain = rig.dispatcher("d1", rules=book(Source(limited(1)))), rig.dispatcher("d2")
    await settled(filed)
    await settled(plain)
    await settled(filed, plain, filed, plain)
    assert filed.keeper.generation == rig.farm.number == 4
    assert plain.keeper.generation is None


async def test_a_refused_file_is_a_problem_that_is_shown() -> None:
    rig, source = Rig(), Source(limited(1))
    core = rig.dispatcher(rules=book(source))
    await core.step()
    source.write("[[")
    core.rules.reload()
    told = {trouble.subject: trouble for trouble in (await core.words.standing()).troubles}
    assert "rules.toml" in told["rules"].message
    assert told["rules"].since_ms == 1_000_000
