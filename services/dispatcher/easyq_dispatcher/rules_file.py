"""The tables `[[pool]]`, `[[limit]]` and `[[weight]]` of the rules file → rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyq.durations import parse_duration
from easyq_dispatcher.domain.matching import Limit, Weight
from easyq_dispatcher.domain.rules import Additions


def parse(document: Mapping[str, Any]) -> Additions:
    """The dispatcher's part of a document that has passed the contract."""
    pools = document.get("pool", ())
    return Additions(
        pools=tuple((pool["name"], pool["pattern"], pool.get("max_running", 0)) for pool in pools),
        limits=tuple(Limit(**table) for table in document.get("limit", ())),
        weights=tuple(Weight(**table) for table in document.get("weight", ())),
        lost_after_by_pool={pool["name"]: parse_duration(pool["lost_after"]) for pool in pools if "lost_after" in pool},
    )
