"""schemathesis against a live gateway: whatever comes in, the answer is one that the document tells, and never a 5xx.

Further: what is refused leaves nothing behind, and whoever keeps to the schema is refused only for what no schema can
say.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from schemathesis.specs.openapi.checks import allow_header_conformance, negative_data_rejection

from tests.fuzz import fuzzed
from tests.fuzz.conftest import Ledger
from tests.support.farm import SplitFarm

SCHEMA = fuzzed.load()

# Why a body or a parameter that keeps to the schema may be refused all the same.
BEYOND_THE_SCHEMA = re.compile(
    "|".join(
        (
            # Of a spec (`domain/spec.py`), by field.
            r"\.?image: ",
            r"\.?(cron|timeZone): ",
            r"\.?mounts\[\d+\]\.(source|target): (must|is the target of)",
            r"\.?(startAt|expiration|startAfter): is more than ten years",
            r"\.?(expiration|endAt): is (not after|in the past)",
            r": only one of startAt, startIn, cron may be set",
            r": is for recurring jobs: it needs `cron`",
            r"\.?backoff\.max: is less than backoff\.min",
            r"\.?(envs|labels)\[.*\]: (variables|labels) starting with",
            r"\.?resources\.(memory|cpus): must be 0 \(no bound\)",
            r"\.?retryOn\[\d+\]: (exit codes go|the range ends)",
            r"\.?(command|entrypoint): ",
            r"\.?webhooks\.\w+\[\d+\]\.url: (must be http://host|has a (host|port)|names a user)",
            r"\.?webhooks\.\w+\[\d+\]\.(secretName: only one|headers\[.*\]: is (set by|there more))",
            r"\.?metadata.*: (is a whole number beyond|is nested deeper|is too large)",
            # Of texts: their bytes, what no text may have, and bounds of a duration or a size that is written as one.
            r": .*bytes",
            r": must not contain NUL|: contains half of a surrogate pair",
            r": must be (greater|less) than|: is too l(ong|arge)",
            # Of times.
            r": is a date or time that does not exist|: is outside of the years|: has an offset that no clock has",
            # Of statistics.
            r"^(from: must be before|step: (must be whole|gives more))",
            # Of output.
            r"^offset goes with none of",
            # Of selections and lists.
            r"\.state\[\d+\]: is no state of the error queue",
            r"^selection: needs at least one condition",
            r"\.?taskPattern: is no regex",
            # As a header, and as a parameter.
            r"^idempotencyKey: is given more than once, with different values",
            r"^pageToken: ",
        )
    )
)


# Checks that don't fit, by operation.
EXCLUDED = {
    # A job may be called `stop`: GET and DELETE of this path are those of `/jobs/{jobId}`.
    "POST /jobs/stop": [allow_header_conformance],
    # Items are judged one by one: what is wrong with one is told in its result.
    "POST /batch": [negative_data_rejection],
}


def is_negative(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_negative


def unexplained(response: Any, case: Any) -> list[str]:
    """What a refusal of sound data says that is not beyond the schema."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return []
    error = json.loads(response.content)["error"]
    told = [f"{one['field']}: {one['message']}" for one in error["fields"]] or [error["message"]]
    return [one for one in told if not BEYOND_THE_SCHEMA.search(one)]


@pytest.mark.timeout(1800)
@SCHEMA.parametrize()
def test_rest_keeps_its_contract(
    case: Any, fuzzed_farm: SplitFarm, ledger: Ledger, known: Sequence[fuzzed.Known]
) -> None:
    if not fuzzed.is_taken(case):
        return
    fuzzed.adjust(case, known)
    before = ledger.entries()
    response = case.call(base_url=fuzzed_farm.rest.url, timeout=60)
    ledger.requests += 1
    ledger.statuses[response.status_code] = ledger.statuses.get(response.status_code, 0) + 1
    case.validate_response(response, excluded_checks=EXCLUDED.get(case.operation.label))
    if case.operation.label == "POST /batch" and is_negative(case) and response.status_code == 200:
        assert [item for item in response.json()["results"] if item["error"]]
    assert unexplained(response, case) == []
    if response.status_code >= 400:
        assert ledger.entries() == before, "a call that was refused changed something"


def test_enough_was_asked(ledger: Ledger) -> None:
    """The lane is as large as it says, and not everything was refused."""
    if not ledger.requests or fuzzed.PATHS.pattern:
        pytest.skip("not all of the test above did run")
    print(f"{ledger.requests} requests by status: {ledger.statuses}")
    assert ledger.requests >= fuzzed.CASES
    assert ledger.statuses[200] > 0.1 * ledger.requests
