"""schemathesis against a live gateway: whatever comes in, the answer is one that the document tells, and never a 5xx.

Further: what is refused leaves nothing behind, and whoever keeps to the schema is refused only for what no schema can
say.
"""

import json
import re
from typing import Any

import pytest
import schemathesis

from tests.integration.fuzz import fuzzed
from tests.integration.fuzz.conftest import Ledger
from tests.support.farm import SplitFarm

SCHEMA = schemathesis.pytest.from_fixture("fuzz_schema")

# Why a body or a parameter that keeps to the schema may be refused all the same.
BEYOND_THE_SCHEMA = re.compile("|".join(()) or "(?!)")


def unexplained(response: Any, case: Any) -> list[str]:
    """What a refusal of sound data says that is not beyond the schema."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return []
    error = json.loads(response.content)["error"]
    told = [f"{one['field']}: {one['message']}" for one in error["fields"]] or [error["message"]]
    return [one for one in told if not BEYOND_THE_SCHEMA.search(one)]


@pytest.mark.timeout(3600)
@SCHEMA.parametrize()
def test_rest_keeps_its_contract(case: Any, fuzzed_farm: SplitFarm, ledger: Ledger) -> None:
    before = ledger.entries()
    response = case.call(base_url=fuzzed_farm.rest.url, timeout=60)
    ledger.requests += 1
    ledger.statuses[response.status_code] = ledger.statuses.get(response.status_code, 0) + 1
    case.validate_response(response)
    assert unexplained(response, case) == []
    if response.status_code >= 400:
        assert ledger.entries() == before, "a call that was refused changed something"


def test_enough_was_asked(ledger: Ledger) -> None:
    """The lane is as large as it says, and not everything was refused."""
    if not ledger.requests:
        pytest.skip("the test above did not run")
    print(ledger.statuses)
    assert ledger.requests >= fuzzed.CASES
    assert ledger.statuses[200] > 0.2 * ledger.requests
