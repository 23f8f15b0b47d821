"""What a log shows of what it is given."""

import json
import subprocess
import sys

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
