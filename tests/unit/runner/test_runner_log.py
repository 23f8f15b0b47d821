"""What an agent tells of its executions and of its engine."""

from structlog.testing import capture_logs

from tests.fakes.runner_rig import Rig


async def test_a_start_is_one_line(rig: Rig) -> None:
    """With what was started, and how long it took to get there."""
    await rig.ready()
    with capture_logs() as lines:
        one = await rig.farm.ended(rig.run("exit 0"))
    [started] = [line for line in lines if line["event"] == "started"]
    assert (started["log_level"], started["image"]) == ("info", "busybox")
    assert started["container"] == one.finish.container_id[:12]
    assert started["create"] >= 0
    events = [line["event"] for line in lines]
    assert events.index("accepted") < events.index("started") < events.index("finished")


async def test_an_orderly_stop_says_nothing_of_the_engine(rig: Rig) -> None:
    await rig.ready()
    with capture_logs() as lines:
        await rig.agent.stop(1.0)
    assert "engine_away" not in {line["event"] for line in lines}
    assert not [line for line in lines if line["log_level"] == "warning"]


async def test_an_engine_that_goes_and_comes_is_told_with_its_problem(rig: Rig) -> None:
    await rig.ready()
    with capture_logs() as lines:
        await rig.engine.go_down()
        await rig.until(lambda: [line for line in lines if line["event"] == "engine_away"])
        await rig.engine.come_up()
        await rig.until(lambda: [line for line in lines if line["event"] == "engine_answers"])
    away, back = [line for line in lines if line["event"] in {"engine_away", "engine_answers"}]
    assert away["error"]
    assert back["attempts"] >= 1
