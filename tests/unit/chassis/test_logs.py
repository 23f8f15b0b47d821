"""What a log shows of what it is given."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from typing import Any

SCRIPT = """
import logging
from easyq_chassis import logs
logs.configure("store", level="debug", fmt="{fmt}")
log = logging.getLogger("easyq_chassis")
secret = "cnry" + "0a1b2c3d"
url = "redis://:" + secret + "@host:1/"
logs.get_logger("easyq_chassis.x").debug("began", url=url, more=[url, {{"at": url}}], number=3)
logging.getLogger("driver").error("can't reach %s", url)
try:
    raise ValueError(url)
except ValueError:
    logs.get_logger("easyq_chassis.x").exception("broke")
"""


def written(fmt: str) -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(fmt=fmt)], capture_output=True, text=True, check=True)
    return done.stderr


def test_urls_are_shown_without_their_passwords() -> None:
    told = written("json")
    assert "cnry0a1b2c3d" not in told
    began, driver, broke = (json.loads(line) for line in told.splitlines())
    shown = "redis://:[redacted]@host:1/"
    assert (began["url"], began["more"], began["number"]) == (shown, [shown, {"at": shown}], 3)
    assert driver["event"] == f"can't reach {shown}"
    assert f"ValueError: {shown}" in broke["exception"]
    assert "Traceback" in broke["exception"]


def test_on_a_console_too() -> None:
    told = written("console")
    assert "cnry0a1b2c3d" not in told
    assert told.count("redis://:[redacted]@host:1/") == 5
    assert "Traceback" in told
    # A traceback that shows the values of variables has this one's.
    assert "secret" not in told


def test_for_people_what_happened_comes_first_and_then_to_what() -> None:
    """Under `easyq up` on a terminal: in colours, although it writes into a pipe."""
    script = (
        "from easyq_chassis import logs\nlogs.configure('store', fmt='console')\n"
        "logs.get_logger().info('ended', state='FAILED', agent='a', job='j', code=3, task='t', execution='e')\n"
        "logs.get_logger().warning('stacks', text='Thread x\\n  at y', path='/p')"
    )
    command = [sys.executable, "-c", script]
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    plain, coloured = (
        subprocess.run(command, capture_output=True, text=True, check=True, env={**environment, **more}).stderr
        for more in ({}, {"FORCE_COLOR": "1"})
    )
    ended, stacks, *text = plain.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} \[info     \] ended {15,} +task=t job=j execution=e agent=a state=FAILED code=3", ended
    )
    assert stacks.endswith("path=/p")
    assert text == ["Thread x", "  at y"]
    assert ("\x1b[" in coloured, "\x1b[" in plain) == (True, False)


def run(script: str, *, level: str = "info", fmt: str = "json") -> list[dict[str, Any]]:
    """The lines of a program that logs by `log`, the standard library by `foreign`."""
    head = (
        "import logging\nfrom easyq_chassis import logs\n"
        f"logs.configure('store', level='{level}', fmt='{fmt}')\n"
        "log, foreign = logs.get_logger(), logging.getLogger('driver')\n"
    )
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_storm_is_some_lines_and_a_count() -> None:
    """The last of them is told at the end of the process."""
    lines = run("for n in range(10_000):\n    log.warning('redis_away', error=f'no answer within {n} s', number=n)")
    assert [line["number"] for line in lines] == [*range(10), 9999]
    assert [line.get("suppressed") for line in lines] == [None] * 10 + [9989]
    assert {line["service"] for line in lines} == {"store"}


def test_a_line_that_comes_late_says_so() -> None:
    script = (
        "import time\nfor n in range(2):\n    log.warning('away', burst=1)\n"
        "now = time.monotonic()\ntime.monotonic = lambda: now + 1000\nlogs.tell_held_back()"
    )
    first, late = run(script)
    assert "late" not in first
    assert late["event"] == "away"
    assert 1000 <= late["late"] < 1100


def test_what_libraries_log_is_bounded_too() -> None:
    lines = run("for n in range(500):\n    foreign.error('retry %d of %s', n, 'redis://u:secret9@h/')")
    assert len(lines) == 11
    assert {line["logger"] for line in lines} == {"driver"}
    assert "secret9" not in json.dumps(lines)


def test_decisions_come_all() -> None:
    script = (
        "for n in range(100):\n    log.info('ended', execution=n)\n"
        "    log.warning('execution_lost', execution=n, bounded=False)\n    log.warning('outage', burst=1)"
    )
    lines = run(script)
    counts = Counter(line["event"] for line in lines)
    assert counts == {"ended": 100, "execution_lost": 100, "outage": 2}
    assert not any({"bounded", "burst"} & set(line) for line in lines)


def test_the_level_holds_for_all() -> None:
    lines = run("log.info('a'); log.warning('b'); foreign.warning('c'); log.error('d')", level="error")
    assert [line["event"] for line in lines] == ["d"]


def test_odd_values_are_shown_somehow() -> None:
    [line] = run("log.info('odd', a=10**30, b='\\ud800', c=object, d={1: b'x'}, e=float('nan'))")
    assert (line["a"], line["c"]) == (10**30, "<class 'object'>")


def test_nobody_who_reads_is_no_error() -> None:
    script = "import os\nos.close(2)\nlog.warning('a')\nforeign.warning('b')\nprint('went on')"
    head = "import logging\nfrom easyq_chassis import logs\nlogs.configure('store')\n"
    names = "log, foreign = logs.get_logger(), logging.getLogger('driver')\n"
    done = subprocess.run([sys.executable, "-c", head + names + script], capture_output=True, text=True, check=False)
    assert done.stdout == "went on\n"


def test_grpc_writes_no_lines_of_its_own() -> None:
    """A peer that goes away with an error is told by gRPC in words of its own, unless it is asked not to."""
    script = r"""
import asyncio, socket, grpc.aio

def go_away(port):
    with socket.create_connection(("127.0.0.1", port)) as peer:
        settings, error = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), bytes([0, 0, 0, 0, 0, 0, 0, 2])
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + error)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1000):
            pass

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(go_away, port)
    await server.stop(0)

asyncio.run(main())
log.info("end")
"""
    assert [line["event"] for line in run(script)] == ["end"]
