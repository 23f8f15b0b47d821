"""The file of rules: what it may have, when it is read, and how dispatchers agree on the newest."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from easyq_chassis.rules_file.watch import RulesError
from easyq_dispatcher import rules_file
from easyq_dispatcher.config import load
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.rules import Additions, RuleError, build_matching, parse_weight
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
pattern = "read-by-another-service"
"""


# ----------------------------------------------------------------------------------------------------------- its tables
def build(text: str, *, pools: tuple[str, ...] = (), limits: tuple[str, ...] = ()) -> Matching:
    weights = ("mail-.*=2", "x=3")
    added = rules_file.parse(tomllib.loads(text))
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
    assert rules_file.parse({}) == Additions()


def test_it_comes_before_the_flags_and_replaces_what_has_its_name() -> None:
    matching = build(FULL, pools=("all=.*", "mail=old"), limits=("a=1", ".*-slow=7"))
    assert [pool.name for pool in matching.pools] == ["mail", "gpu", "all", "default"]
    assert matching.pool_by_name["mail"].pattern == "mail-.*"
    assert [(limit.pattern, limit.max_running) for limit in matching.limits] == [(".*-slow", 0), ("a", 1)]


@pytest.mark.parametrize("text", ["a", "=3", "a=0", "a=1001", "a=x", "[=3"])
def test_wrong_weights_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(RuleError, match=re.escape(repr(text))):
        parse_weight(text)


# ------------------------------------------------------------------------------------------------------------ settings
def test_what_the_file_adds_to_the_settings() -> None:
    settings = load(["--weight", "a{1,2}=7", "--pool", "x=y"])
    assert settings.weights == ("a{1,2}=7",)
    full, warning = settings.matching(rules_file.parse(tomllib.loads(FULL)))
    assert [pool.name for pool in full.pools] == ["mail", "gpu", "x", "default"]
    assert [pool.name for pool in settings.matching(Additions())[0].pools] == ["x", "default"]
    assert (settings.patience().failures, settings.patience().wait_ms) == (3, 5_000)
    assert warning == ""


def test_a_lost_after_within_the_lease_is_told_and_does_not_hold() -> None:
    """The other services have no lease to measure it by: refused here alone, the file would hold by halves."""
    settings = load(["--lost-after", "60s", "--pool", "a=b", "--pool-lost-after", "a=30s"])
    added = Additions(
        pools=(("a", "a", 0), ("b", "b", 0), ("c", "c", 3)),
        lost_after_by_pool={"a": 15_000, "b": 9_000, "c": 15_001},
    )
    matching, warning = settings.matching(added)
    assert {pool.name: pool.lost_after_ms for pool in matching.pools} == {
        "a": 30_000,
        "b": 60_000,
        "c": 15_001,
        "default": 60_000,
    }
    assert "longer than the lease, 15 s" in warning
    assert "a has 30s, b has 60s instead" in warning


def test_wrong_weights_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(["--weight", "a=0"])
    assert "--weights (EASYQ_DISPATCHER_WEIGHTS)" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- a file
class File:
    """A file that a test writes."""

    def __init__(self, path: Path, limit: int | str = 1, changed_ms: int = 100) -> None:
        self.path, self.changed_ms = path, changed_ms
        self.write(limit, changed_ms)

    def write(self, limit: int | str, changed_ms: int | None = None) -> None:
        self.changed_ms = self.changed_ms + 1_000 if changed_ms is None else changed_ms
        self.path.write_text(limit if isinstance(limit, str) else limited(limit))
        os.utime(self.path, ns=(0, self.changed_ms * 10**6))


def limited(most: int) -> str:
    return f"[[limit]]\npattern = 't'\nmax_running = {most}\n"


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "rules.toml")


def plain(added: Additions) -> tuple[Matching, str]:
    matching = build_matching((), (), lost_after_ms=9, lost_after_by_pool={}, added=added)
    return matching, "doubtful" if any(limit.max_running == 13 for limit in added.limits) else ""


def book(file: File | None) -> Rulebook:
    return Rulebook(build=plain, path=str(file.path) if file else "", clock=ManualClock())


def limit_of(rules: Rulebook) -> int:
    return rules.matching.limits[0].max_running


def test_new_rules_wait_for_the_page_to_be_turned(file: File) -> None:
    rules = book(file)
    assert (limit_of(rules), rules.version) == (1, 100)
    assert not rules.turn_page()
    turned: list[bool] = []
    rules.turned = lambda: turned.append(True)
    for most in (2, 3):
        file.write(most)
        rules.file.reload()
    assert (limit_of(rules), turned) == (1, [True, True])
    assert rules.turn_page()
    assert (limit_of(rules), rules.version) == (3, 2_100)
    assert not rules.turn_page()


def test_what_changes_no_rule_of_the_dispatcher_turns_no_page(file: File) -> None:
    rules = book(file)
    for text in (limited(1), "# new\n" + limited(1), limited(1) + "[[default]]\npattern = 'a'\nretries = 3\n"):
        file.write(text)
        rules.file.reload()
        assert not rules.turn_page()
    assert rules.version == 100
    # Put back before it ever held.
    file.write(2)
    rules.file.reload()
    file.write(1)
    rules.file.reload()
    assert rules.turn_page()
    assert limit_of(rules) == 1


def test_a_wrong_file_is_refused(file: File) -> None:
    rules = book(file)
    file.write(-1)
    rules.file.reload()
    assert not rules.turn_page()
    assert (limit_of(rules), rules.problem_since_ms) == (1, 1_000_000)
    assert "line 3: limit[0].max_running" in rules.problem
    file.write(1)
    rules.file.reload()
    assert rules.problem == ""
    file.write(-1)
    with pytest.raises(RulesError, match="max_running"):
        book(file)


def test_doubtful_rules_hold_and_are_told(file: File, capsys: pytest.CaptureFixture[str]) -> None:
    rules = book(file)
    file.write(13)
    rules.file.reload()
    assert rules.turn_page()
    assert (rules.problem, rules.problem_since_ms, limit_of(rules)) == ("doubtful", 1_100, 13)
    assert "rules_doubtful" in capsys.readouterr().out
    file.write(1)
    rules.file.reload()
    assert rules.problem == ""


def test_without_a_file_the_version_is_0() -> None:
    rules = book(None)
    rules.file.reload()
    assert (rules.version, rules.problem, rules.turn_page()) == (0, "", False)


def test_a_file_that_was_put_back_is_newer_nevertheless(file: File) -> None:
    file.write(1, changed_ms=5_000)
    rules = book(file)
    file.write(2, changed_ms=3_000)
    rules.file.reload()
    assert rules.version == 5_001


# --------------------------------------------------------------------------------------------------------- dispatchers
async def settled(*cores: Core) -> None:
    for _ in range(4):
        for core in cores:
            await core.keeper.run_once()


async def test_new_rules_hold_for_what_runs_already(file: File) -> None:
    rig = Rig()
    core, agent = rig.dispatcher(rules=book(file)), Agent("a", 9)
    await core.step()
    await agent.connect(core)
    rig.farm.submit("t", 5)
    rig.clock.seconds += 1
    await core.step()
    assert len(agent.running) == 1
    file.write(3)
    core.rules.file.reload()
    await core.step()
    assert len(agent.running) == 3
    assert (await core.words.standing()).limits[0].limit.max_running == 3
    file.write(2)
    core.rules.file.reload()
    await core.step()
    agent.finish(*list(agent.running)[:1])
    await core.step()
    assert len(agent.running) == 2
    assert rig.farm.most_held["t"] == 3


async def test_dispatchers_that_read_a_file_at_different_moments_agree(tmp_path: Path) -> None:
    rig, files = Rig(), (File(tmp_path / "one"), File(tmp_path / "two"))
    one, two = (rig.dispatcher(f"d{number}", rules=book(files[number])) for number in (0, 1))
    await settled(one, two)
    generation = rig.farm.number
    for file in files:
        file.write(2)
    one.rules.file.reload()
    await settled(one, two)
    # The other has older rules: it waits, and undoes nothing.
    assert (one.keeper.generation, two.keeper.generation) == (generation + 1, None)
    assert "other pools or limits" in two.keeper.problem
    two.rules.file.reload()
    await settled(one, two)
    assert one.keeper.generation == two.keeper.generation == rig.farm.number == generation + 1


async def test_newer_rules_win_whoever_has_them(tmp_path: Path) -> None:
    rig = Rig()
    one, two = (
        rig.dispatcher("d1", rules=book(File(tmp_path / "one", 1, 900))),
        rig.dispatcher("d2", rules=book(File(tmp_path / "two", 2, 500))),
    )
    await settled(one)
    # It starts later, and with an older file.
    await settled(two, one, two)
    assert (one.keeper.generation, two.keeper.generation) == (2, None)
    # Nobody works with the newer ones any more.
    rig.clock.seconds += 11
    await settled(two)
    assert two.keeper.generation == rig.farm.number == 3


async def test_a_dispatcher_without_a_file_does_not_fight_one_that_has(file: File) -> None:
    rig = Rig()
    filed, without = rig.dispatcher("d1", rules=book(file)), rig.dispatcher("d2")
    await settled(filed)
    await settled(without)
    await settled(filed, without, filed, without)
    assert filed.keeper.generation == rig.farm.number == 4
    assert without.keeper.generation is None


async def test_a_refused_file_is_a_problem_that_is_shown(file: File) -> None:
    rig = Rig()
    core = rig.dispatcher(rules=book(file))
    await core.step()
    file.write("[[")
    core.rules.file.reload()
    told = {trouble.subject: trouble for trouble in (await core.words.standing()).troubles}
    assert "rules.toml" in told["rules"].message
    assert told["rules"].since_ms == 1_000_000
