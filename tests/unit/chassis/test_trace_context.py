"""W3C Trace Context: what is taken, what is left aside, what goes on."""

import pytest

from easyq_chassis.tracing.context import TraceContext, derived_id, derived_trace, from_headers, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_callers_place() -> None:
    found = from_headers([PARENT], ["rojo=1 , congo=t61", "a@b=!~"])
    assert found == TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True, state="rojo=1,congo=t61,a@b=!~")
    assert found.traceparent == PARENT
    assert found.text == f"{PARENT} rojo=1,congo=t61,a@b=!~"
    assert parse(found.text) == found


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_one_flag_counts(flags: str, sampled: bool) -> None:
    found = from_headers([f"00-{TRACE}-{SPAN}-{flags}"])
    assert found is not None
    assert found.sampled is sampled
    assert found.traceparent.endswith("-01" if sampled else "-00")


def test_versions_to_come_may_say_more() -> None:
    assert from_headers([f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"]) == parse(PARENT)
    assert from_headers([f"cc-{TRACE}-{SPAN}-01"]) == parse(PARENT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-0١",
        f"{PARENT},{PARENT}",
    ],
)
def test_no_place_in_a_trace(text: str) -> None:
    assert from_headers([text]) is None


def test_two_places_are_none() -> None:
    assert from_headers([PARENT, PARENT]) is None
    assert from_headers([]) is None
    assert parse("") is None


@pytest.mark.parametrize(
    "state",
    [
        "novalue",
        "Upper=1",
        "a=1,a=2",
        "a=b=c",
        "a=ü",
        "a=1\n",
        "a=\x00",
        ",".join(f"k{number}=1" for number in range(33)),
        f"a={'x' * 257}",
        ",".join(f"k{number}={'x' * 250}" for number in range(3)),
    ],
)
def test_a_state_that_breaks_its_rules_is_left_out(state: str) -> None:
    found = from_headers([PARENT], [state])
    assert found is not None
    assert found.state == ""
    assert found.text == PARENT


def test_empty_members_count_for_nothing() -> None:
    found = from_headers([PARENT], ["", "a=1,, ,b=2"])
    assert found is not None
    assert found.state == "a=1,b=2"


def test_ids_that_follow_from_what_is_known() -> None:
    assert derived_id("one", "2") == derived_id("one", "2") != derived_id("one", "3")
    assert (len(derived_id("x")), len(derived_trace("x"))) == (16, 32)
    place = parse(PARENT)
    assert place is not None
    assert place.at("a" * 16).traceparent == f"00-{TRACE}-{'a' * 16}-01"
