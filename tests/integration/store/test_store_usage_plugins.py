"""The example of docs/operations/metrics.md, installed as a package beside a store that runs as its own process."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from easyq_chassis.channel import open_channel
from easyq_internal.store.v1 import records_pb2 as records
from tests.integration.store.conftest import Client
from tests.support.farm.split import Service
from tests.support.scraping import scrape
from tests.support.snippets import ROOT, blocks
from tests.support.waiting import eventually, free_port

PAGE = "docs/operations/metrics.md"
_WRITES_TO = "/var/lib/billing"
# Others that must not matter: one can't be made, one hangs with the first record that it gets.
_WORSE = """
import time

def fails():
    raise RuntimeError("no licence")

class Hangs:
    def take(self, records):
        time.sleep(3600)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the example writes to."""
    page = blocks(PAGE, (ROOT / PAGE).read_text(encoding="utf-8"))
    (code,) = [one.text for one in page if one.language == "python"]
    assert _WRITES_TO in code
    packages = tmp_path / "packages"
    about = packages / "billing-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "billing.py").write_text(code.replace(_WRITES_TO, str(tmp_path)), encoding="utf-8")
    (packages / "worse.py").write_text(_WORSE, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: billing\nVersion: 1.0\n", encoding="utf-8")
    points = "[easyq.metrics]\nbilling = billing:Billing\nfails = worse:fails\nhangs = worse:Hangs\n"
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return tmp_path


@pytest.fixture
def store(installed: Path) -> Iterator[Service]:
    at, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    settings = {"listen": at, "ops_listen": ops, "database": f"sqlite:///{installed}/easyq.db"}
    service = Service("store", settings=settings, address=at)
    service.start()
    yield service
    service.close()


@pytest.fixture
async def client(store: Service) -> AsyncIterator[Client]:
    it = Client(open_channel(store.address))
    yield it
    await it.close()


async def test_the_example_gets_every_end_and_counts_by_team(
    installed: Path, store: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await client.enqueue("mail", labels={"team": "red"})
    await client.enqueue("mail")
    session = (await client.hello()).session
    held = await client.run(one.ready.execution_id, session)
    finish = records.Finish(outcome=records.Finish.Outcome.EXITED, exit_code=0)
    finish.ran_for.FromMilliseconds(1500)
    await client.say(held.execution_id, held.epoch, finish=finish)

    async def told() -> str:
        return (installed / "usage.csv").read_text(encoding="utf-8")

    line = (await eventually(told)).strip().split(",")
    assert line[1:] == ["mail", held.job_id, "SUCCEEDED", "1.5"]

    async def counted() -> bool:
        # The line is written before its end is counted.
        found = await asyncio.to_thread(scrape, store.metrics)
        assert found.value("easyq_usage_billing_jobs_enqueued_total", team="red") == 1
        assert found.value("easyq_usage_billing_jobs_enqueued_total", team="nobody") == 1
        assert found.value("easyq_usage_billing_executions_started_total", team="red") == 1
        assert found.value("easyq_usage_billing_executions_ended_total", team="red", state="SUCCEEDED") == 1
        assert found.value("easyq_usage_billing_run_time_seconds_total", team="red") == 1.5
        assert found.value("easyq_jobs_enqueued_total", task="mail") == 2
        return True

    await eventually(counted)
    assert "no licence" in store.log
