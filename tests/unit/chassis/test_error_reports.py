"""Reports of errors: what they say, what they leave out, and handlers that fail, hang, or are slow."""

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from easyq_chassis import error_reports
from easyq_chassis.error_reports import Kind, Report, Reporter, Surroundings, handlers, report_error, secrets_of
from easyq_chassis.error_reports.handlers import factory, unknown
from easyq_chassis.error_reports.outlet import Dropped, Outlet
from easyq_chassis.error_reports.report import cause_of, chain, raised_of
from easyq_chassis.error_reports.texts import fit, one_line
from easyq_chassis.error_reports.throttle import Throttle
from easyq_chassis.errors import FailedPrecondition, Internal, Unavailable
from easyq_chassis.redaction import MARKER, Redactor
from easyq_chassis.settings import ServiceSettings
from tests.support.waiting import eventually, wait_until

CANARY = "cnry0a1b2c3d4e5f"


class Handler:
    """Keeps reports; fails, hangs or ends as told."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def handle(self, report: Report) -> None:
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.reports.append(report)

    def close(self) -> None:
        self.closed = True


@contextmanager
def reporting(**named: Handler) -> Iterator[Reporter]:
    """A reporter to these handlers."""

    def making(handler: Handler) -> Callable[[], Handler]:
        return lambda: handler

    made = Reporter("test", [Outlet(name, making(handler), room=4) for name, handler in named.items()])
    error_reports.use(made)
    try:
        yield made
    finally:
        for handler in named.values():
            handler.gate.set()
        error_reports.close(5)


def report(number: int = 1) -> Report:
    id_ = f"{number:032x}"
    return Report(report_id=id_, kind=Kind.EXECUTION, title="t", place="p", at_ms=0, fingerprint=("f",))


def raised(text: str = "no such thing", kind: type[Exception] = ValueError) -> Exception:
    try:
        raise kind(text)
    except kind as error:
        return error


# ---------------------------------------------------------------------------------------------------- what is told
def test_an_error_is_told_with_its_causes_and_where_it_arose() -> None:
    def inner() -> None:
        secret = CANARY
        raise KeyError(len(secret))

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise RuntimeError("outer") from error

    with pytest.raises(RuntimeError) as caught:
        outer()
    first, last = raised_of(caught.value, lambda text: text)
    assert (first.kind, first.module, first.text) == ("KeyError", "builtins", "16")
    assert (last.kind, last.text) == ("RuntimeError", "outer")
    assert first.frames[-1].function.endswith("inner")
    assert first.frames[-1].module == __name__
    assert not first.frames[-1].ours


def test_chains_end_although_errors_cause_themselves() -> None:
    one, other = ValueError("1"), ValueError("2")
    one.__cause__, other.__cause__ = other, one
    assert chain(one) == [one, other]
    deep = ValueError("0")
    for _ in range(50):
        above = ValueError("n")
        above.__cause__ = deep
        deep = above
    assert len(chain(deep)) == 8


def test_what_is_suppressed_is_no_cause_and_the_first_of_a_group_is() -> None:
    hidden = ValueError("shown")
    hidden.__context__, hidden.__suppress_context__ = KeyError("hidden"), True
    assert chain(hidden) == [hidden]
    member = KeyError("member")
    group = ExceptionGroup("several", [member, ValueError("other")])
    assert chain(group) == [group, member]


def test_a_text_that_can_not_be_made_is_no_error_of_its_own() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    (told,) = raised_of(Mute(), lambda text: text)
    assert told.text == "(it can't be shown)"


def test_errors_of_one_cause_are_told_apart_by_neither_ids_nor_lines() -> None:
    def fail(number: int) -> None:
        if number % 2:
            raise ValueError(f"job {number}")
        raise ValueError(f"another line, job {number}")

    def caught(call: Callable[[], None]) -> Exception:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - any
            call()
        return caught.value

    one, other = caught(lambda: fail(1)), caught(lambda: fail(2))
    assert cause_of(one) == cause_of(other)
    assert cause_of(one)[0] == "builtins.ValueError"
    assert cause_of(raised(kind=KeyError)) != cause_of(raised())
    assert cause_of(raised()) != cause_of(one)
    assert cause_of(ValueError("never raised")) == ("builtins.ValueError", "")


def test_the_place_is_our_innermost_code() -> None:
    # It arises below, in the standard library.
    with pytest.raises(TypeError) as caught:
        fit(7, Redactor(), [])  # type: ignore[arg-type]
    with pytest.raises(TypeError) as below:
        fit("a", Redactor(), [7])  # type: ignore[list-item]
    for error in (caught.value, below.value):
        outer = RuntimeError()
        outer.__cause__ = error
        assert cause_of(outer)[1] == "easyq_chassis.error_reports.texts:fit"


# ----------------------------------------------------------------------------------------------------- what is not
@pytest.mark.parametrize(
    "text",
    [
        f"can't reach redis://:{CANARY}@h:1/0",
        f"GET https://h/?access_token={CANARY}&a=b",
        f"{{'DB_PASSWORD': '{CANARY}', 'A': 'b'}}",
        f'{{"apiKey": "{CANARY}"}}',
        f'{{"apiKey": "x\\"{CANARY}"}}',
        f"password={CANARY}",
        f"secret: {CANARY}",
        f'envs {{ key: "API_TOKEN" value: "{CANARY}" }}',
        f'envs {{\n  key: "API_TOKEN"\n  value: "{CANARY}"\n}}',
        f"Authorization: Bearer {CANARY}",
        f"header 'basic {CANARY}=='",
        f"Unauthorized for {CANARY}7known",
    ],
)
def test_texts_are_told_without_secrets(text: str) -> None:
    told = fit(text, Redactor(), [f"{CANARY}7known"])
    assert CANARY not in told
    assert MARKER in told


def test_texts_are_bounded_and_a_secret_that_is_cut_is_none_the_less_one() -> None:
    text = "x" * 1_950 + f'"PASSWORD": "{CANARY * 20}"'
    told = fit(text, Redactor())
    assert len(told) <= 2_000
    assert CANARY not in told
    assert fit("a word: plain, key=", Redactor()) == "a word: plain, key="


@given(st.text(max_size=300))
def test_any_text_can_be_told(text: str) -> None:
    assert isinstance(fit(text, Redactor(), ["0000"]), str)


def test_long_texts_take_no_long_time() -> None:
    for nasty in ("a=" * 100_000, '"' * 200_000, "key: " * 50_000, "'a':'\\" * 40_000, "bearer " * 30_000):
        assert len(fit(nasty, Redactor())) <= 2_000 + len(MARKER) * 1_000


def test_one_line() -> None:
    assert one_line(" a\n b\t") == "a b"
    assert one_line("abcdef", 4) == "abc…"


def test_settings_that_are_secret_are_known() -> None:
    class Settings(ServiceSettings):
        database: str = ""
        odd: str = ""
        number: int = 3

    given = {"sentry_dsn": "https://abcdefg@h/1", "database": f"mongodb://u:{CANARY}@h/", "odd": "http://[::1"}
    settings = Settings.model_validate(given)
    assert secrets_of(dict(settings)) == ("https://abcdefg@h/1", CANARY)


# -------------------------------------------------------------------------------------------------------- how often
def test_the_first_of_a_cause_are_told_and_the_rest_counted() -> None:
    throttle: Throttle[str] = Throttle(most=2, window=60, keys=2)
    assert [throttle.admit("a", now) for now in (0, 1, 2, 3)] == [0, 0, None, None]
    assert throttle.admit("b", 4) == 0
    assert [throttle.admit("a", now) for now in (60, 61, 62)] == [2, 0, None]
    # One too many, of which the oldest is forgotten.
    assert throttle.admit("c", 63) == 0
    assert throttle.admit("b", 63) == 0


def test_a_storm_of_errors_is_told_five_times() -> None:
    handler = Handler()
    with reporting(h=handler):
        for _ in range(1_000):
            report_error(raised(), "here")
    # Fewer have room before the handler than come at once.
    assert 4 <= len(handler.reports) <= 5


# --------------------------------------------------------------------------------------------------------- handlers
def test_a_report_says_where_with_which_ids_and_how_bad_it_is() -> None:
    handler = Handler()
    with reporting(h=handler), structlog.contextvars.bound_contextvars(agent="a-1", token=f"x://u:{CANARY}@h"):
        report_error(raised(f"redis://:{CANARY}@h"), "loop x", {"task": "mail", "job": ""}, fatal=True)
    (told,) = handler.reports
    assert (told.kind, told.place, told.fatal, told.left_out) == (Kind.CRASH, "loop x", True, 0)
    assert told.tags == {"agent": "a-1", "token": f"x://u:{MARKER}@h", "task": "mail"}
    assert told.fingerprint[:2] == ("test", "builtins.ValueError")
    assert told.title == f"ValueError: redis://:{MARKER}@h"
    assert abs(told.at_ms / 1000 - time.time()) < 60
    assert handler.closed


def test_without_handlers_nothing_happens() -> None:
    report_error(raised(), "here")
    assert handlers() == ()
    error_reports.close(1)


def test_an_error_while_reporting_is_logged_only(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Handler()
    with reporting(h=handler), capture_logs() as lines:
        monkeypatch.setattr("easyq_chassis.error_reports.reporter.raised_of", lambda *_: 1 / 0)
        report_error(raised(), "here")
    assert handler.reports == []
    assert [line["event"] for line in lines] == ["error_report_failed"]


def test_a_handler_that_raises_gets_the_next_report_all_the_same() -> None:
    handler, other = Handler(), Handler()
    handler.error = RuntimeError(f"https://u:{CANARY}@h")
    with reporting(h=handler, other=other) as reporter, capture_logs() as lines:
        report_error(raised(), "here")
        wait_until(lambda: reporter.counts["h"].failed == 1)
        handler.error = SystemExit(3)
        report_error(raised(), "here")
        wait_until(lambda: reporter.counts["h"].failed == 2)
        handler.error = None
        report_error(raised(), "here")
        wait_until(lambda: reporter.counts["h"].handled == 1)
        wait_until(lambda: reporter.counts["other"].handled == 3)
    assert {line["event"] for line in lines} == {"error_handler_failed"}


def test_a_handler_that_hangs_holds_up_nobody_and_what_it_can_not_take_is_dropped_and_counted() -> None:
    stuck, other = Handler(), Handler()
    stuck.gate.clear()
    with reporting(stuck=stuck, other=other) as reporter, capture_logs() as lines:
        for number in range(12):
            # Each of another kind, so that none is left out.
            report_error(raised(kind=type(f"Error{number}", (Exception,), {})), "here")
            wait_until(lambda: reporter.counts["other"].waiting == 0 and len(other.reports) == number + 1)  # noqa: B023 - now
            if not number:
                wait_until(lambda: reporter.counts["stuck"].waiting == 0)
        counts = reporter.counts["stuck"]
        # One in its hands, four before it.
        assert (counts.handled, counts.dropped, counts.waiting) == (0, 7, 4)
    assert [line["dropped"] for line in lines if line["event"] == "error_report_dropped"] == [1, 2, 4]
    assert len(stuck.reports) == 5


def test_the_end_waits_for_a_handler_that_hangs_only_so_long() -> None:
    stuck = Handler()
    stuck.gate.clear()
    reporter = Reporter("test", [Outlet("stuck", lambda: stuck)])
    error_reports.use(reporter)
    report_error(raised(), "here")
    with capture_logs() as lines:
        error_reports.close(0.05)
    assert [line["event"] for line in lines] == ["error_handler_left"]
    stuck.gate.set()


def test_one_that_can_not_be_made_is_made_again_for_the_next_report() -> None:
    made: list[Handler] = []

    def make() -> Handler:
        made.append(Handler())
        if len(made) < 3:
            raise OSError("no network yet")
        return made[-1]

    outlet = Outlet("late", make)
    wait_until(lambda: len(made) == 1)
    first = outlet.offer(report(1))
    with pytest.raises(OSError, match="no network"):
        first.result(10)
    assert outlet.offer(report(2)).result(10) is None
    assert outlet.counts.failed == 1
    outlet.end()
    assert outlet.join(10)
    assert made[-1].closed


def test_ending_one_that_is_full_does_not_wait() -> None:
    handler = Handler()
    handler.gate.clear()
    outlet = Outlet("h", lambda: handler, room=1)
    first = outlet.offer(report(1))
    wait_until(lambda: not outlet.counts.waiting)
    waiting: Future[None] = outlet.offer(report(2))
    outlet.end()
    assert not outlet.join(0.01)
    assert isinstance(outlet.offer(report(3)).exception(5), Dropped)
    handler.gate.set()
    assert (first.result(10), waiting.result(10)) == (None, None)


# ---------------------------------------------------------------------------------------------- failed executions
async def test_a_report_is_brought_to_those_who_do_not_have_it_yet() -> None:
    good, bad = Handler(), Handler()
    bad.error = RuntimeError(f"no\nway, password={CANARY}")
    with reporting(good=good, bad=bad):
        assert await error_reports.deliver(report(), 10) == [f"bad: RuntimeError: no way, password={MARKER}"]
        bad.error = None
        assert await error_reports.deliver(report(), 10) == []
        assert (len(good.reports), len(bad.reports)) == (1, 1)
        # By hand, once more: to all.
        assert await error_reports.deliver(report(), 10) == []
        assert (len(good.reports), len(bad.reports)) == (2, 2)


async def test_one_that_fails_after_the_wait_for_it_is_no_complaint_of_asyncio() -> None:
    late = Handler()
    late.gate.clear()
    late.error = RuntimeError("network")
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with reporting(late=late):
        assert await error_reports.deliver(report(), 0.01) == ["late: it did not take it within 0.01 s"]
        late.gate.set()
        await eventually(lambda: error_reports.counts()["late"].failed == 1)
        # What its thread has said reaches this one.
        await asyncio.sleep(0.05)
        # The next try takes its place.
        assert await error_reports.deliver(report(), 10) == ["late: RuntimeError: network"]
        gc.collect()
    assert complaints == []


async def test_one_that_hangs_is_waited_for_only_so_long() -> None:
    good, stuck = Handler(), Handler()
    stuck.gate.clear()
    with reporting(good=good, stuck=stuck):
        assert await error_reports.deliver(report(), 2) == ["stuck: it did not take it within 2 s"]
        # It has the first in its hands; what is asked for again does not pile up before it.
        for _ in range(8):
            assert await error_reports.deliver(report(), 0.01) == ["stuck: it did not take it within 0.01 s"]
        stuck.gate.set()
        await eventually(lambda: len(stuck.reports) == 1)
        # It took it after all.
        assert await error_reports.deliver(report(), 10) == []
        assert (len(good.reports), len(stuck.reports)) == (1, 1)


async def test_of_many_that_some_do_not_have_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyq_chassis.error_reports.reporter._MOST_REMEMBERED", 1)
    good, bad = Handler(), Handler()
    bad.error = RuntimeError("no")
    with reporting(good=good, bad=bad):
        for number in (1, 2, 1):
            assert await error_reports.deliver(report(number), 10) == ["bad: RuntimeError: no"]
        assert len(good.reports) == 3


# ------------------------------------------------------------------------------------------------- names and settings
def test_names_of_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown(()) == ""
    assert unknown(("sentry",)) == ""
    assert "there is no error handler sentri; there are" in unknown(("sentry", "sentri"))
    assert "sentry" in unknown(("x",))
    with pytest.raises(LookupError, match="nobody"):
        factory("nobody")


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({}, ()),
        ({"sentry_dsn": ""}, ()),
        ({"sentry_dsn": "https://key@h/1"}, ("sentry",)),
        ({"sentry_dsn": "http://key:x@h:90/a/b/12", "error_handlers": " sentry,, sentry"}, ("sentry",)),
    ],
)
def test_which_handlers_are_chosen(given: dict[str, Any], chosen: tuple[str, ...]) -> None:
    assert ServiceSettings.model_validate(given).chosen_handlers == chosen


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"error_handlers": "nobody"}, "there is no error handler nobody"),
        ({"error_handlers": "sentry"}, "needs sentry_dsn"),
        ({"sentry_dsn": f"https://{CANARY}@h/project"}, "must be like"),
        ({"sentry_dsn": f"{CANARY}"}, "must be like"),
        ({"sentry_environment": "a b"}, "pattern"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        ServiceSettings.model_validate(given)
    assert CANARY not in "".join(problem["msg"] for problem in refused.value.errors())  # type: ignore[attr-defined]


def test_surroundings_do_not_show_the_key() -> None:
    around = Surroundings(service="s", farm="f", version="1", environment="e", sentry_dsn=CANARY)
    assert CANARY not in repr(around)


# ------------------------------------------------------------------------------------------------ loops and processes
async def test_unexpected_errors_of_loops_are_told_and_outages_are_not() -> None:
    from easyq_chassis.loops import Loop

    handler = Handler()
    errors: list[Exception] = [Unavailable("away"), raised("broken"), Internal("ours")]
    done = asyncio.Event()

    async def run_once() -> float:
        if errors:
            raise errors.pop(0)
        done.set()
        return 60

    with reporting(h=handler):
        loop = Loop("x", run_once, 60)
        loop.start()
        async with asyncio.timeout(20):
            await done.wait()
        await loop.stop()
    assert [(told.place, told.raised[-1].kind) for told in handler.reports] == [
        ("loop x", "ValueError"),
        ("loop x", "Internal"),
    ]


def test_what_ends_a_process_is_told_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from easyq_chassis import process
    from easyq_chassis.rules_file.watch import RulesError

    handler = Handler()

    async def main(error: Exception, stop: asyncio.Event) -> None:
        raise error

    for error, status in (
        (raised("broken"), 1),
        (RulesError("bad file"), 2),
        (Unavailable("the address is taken"), 1),
        (FailedPrecondition("a database of a newer version"), 2),
    ):
        error_reports.use(Reporter("test", [Outlet("h", lambda: handler)]))
        with capture_logs() as lines, pytest.raises(SystemExit) as ended:
            process.run(lambda stop, error=error: main(error, stop))  # type: ignore[misc]
        assert ended.value.code == status
        [line] = lines
        # A fault has its traceback, in the line; what is told in a sentence has none.
        assert (line["event"], "exc_info" in line) == (
            ("process_ended", True) if type(error) is ValueError else ("cannot_start", False)
        )
    assert [(told.place, told.fatal, told.raised[-1].kind) for told in handler.reports] == [
        ("process", True, kind) for kind in ("ValueError", "RulesError", "Unavailable", "FailedPrecondition")
    ]


def test_errors_of_tasks_and_threads_that_nobody_waits_for_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    from easyq_chassis import process

    handler = Handler()

    async def main(_stop: asyncio.Event) -> None:
        async def fail(error: Exception) -> None:
            raise error

        for error in (raised("lost"), ConnectionResetError("a neighbour")):
            task = asyncio.create_task(fail(error))
            await asyncio.wait({task})
            del task
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        await asyncio.to_thread(thread.join)

    error_reports.use(Reporter("test", [Outlet("h", lambda: handler)]))
    before = threading.excepthook
    try:
        process.run(main)
    finally:
        threading.excepthook = before
    assert [(told.place, told.raised[-1].kind) for told in handler.reports] == [
        ("task", "ValueError"),
        ("thread", "ZeroDivisionError"),
    ]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_sentry_is_imported_by_nobody_who_does_not_use_it() -> None:
    import subprocess

    code = "import easyq_chassis.process, sys; sys.exit('sentry_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
