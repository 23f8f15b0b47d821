import json
import random

import pytest

from bench.relay import Recorder, _Frames
from bench.report import Figure, Goal, Step, document, table
from bench.telemetry import SIDES, figures, order


def frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_found_however_the_bytes_are_cut(seed: int) -> None:
    numbers = random.Random(seed)
    stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, b"settings") + frame(6, b"12345678") + frame(0, b"")
    message = frame(0, bytes(numbers.randrange(1, 500)))
    frames = _Frames(skip=24)

    def feed(data: bytes) -> bool:
        found = False
        while data:
            size = numbers.randrange(1, len(data) + 1)
            found = frames.has_message(data[:size]) or found
            data = data[size:]
        return found

    assert not feed(stream)
    assert feed(message)
    assert not feed(frame(8, b"1234"))
    assert feed(frame(1, b"headers") + message)


def test_a_recorder_takes_only_bytes_with_the_mark() -> None:
    recorder = Recorder()
    see = recorder.bytes_of("docker", b"/create")()
    see(True, b"GET /info", 1.0)
    see(True, b"POST /containers/create", 2.0)
    assert [(one.name, one.forward, one.at) for one in recorder.passed] == [("docker", True, 2.0)]


def test_a_goal_is_judged_by_the_median() -> None:
    fast = Figure(name="fast", unit="/s", runs=[1, 900, 800], goal=Goal(at_least=800))
    slow = Figure(name="slow", unit="ms", runs=[1, 13, 14], goal=Goal(at_most=12))
    plain = Figure(name="plain", unit="s", runs=[2])
    assert (fast.verdict, slow.verdict, plain.verdict) == ("met", "NOT MET", "")
    text = table([fast, slow, plain], [Step(what="sent", at=0)], {"part": "no Docker"})
    assert "NOT MET" in text
    assert "not measured: part: no Docker" in text
    told = json.loads(document([fast, slow, plain], [], {}, {}))
    assert [figure.get("met") for figure in told["figures"]] == [True, False, None]


def test_each_side_of_telemetry_has_each_place_as_often() -> None:
    every = sorted(side.name for side in SIDES)
    places = [[side.name for side in order(number)] for number in range(len(SIDES))]
    assert all(sorted(names) == every for names in places)
    assert [sorted(names) for names in zip(*places, strict=True)] == [every] * len(SIDES)
    assert order(len(SIDES)) == order(0) == SIDES


def test_what_telemetry_costs_is_a_ratio_to_none_of_it() -> None:
    one = {
        "all": {"enqueue": 900.0, "executions": 470.0, "processor": 2.2},
        "every trace": {"enqueue": 800.0, "executions": 450.0, "processor": 2.4},
        "logs": {"enqueue": 980.0, "executions": 495.0, "processor": 2.1},
        "none": {"enqueue": 1000.0, "executions": 500.0, "processor": 2.0},
    }
    found = figures([one, one])
    assert [[round(run, 3) for run in figure.runs] for figure in found] == [
        [0.9, 0.9],
        [0.94, 0.94],
        [1.1, 1.1],
        [0.8, 0.8],
        [0.9, 0.9],
        [1.2, 1.2],
        [0.98, 0.98],
        [0.99, 0.99],
        [1.05, 1.05],
    ]
    assert [figure.verdict for figure in found] == ["met"] * 3 + [""] * 6
    assert found[0].details["logs"] == [one["logs"]] * 2
