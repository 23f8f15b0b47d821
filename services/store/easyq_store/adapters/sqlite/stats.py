"""Statistics as rows."""

import json
import sqlite3
from collections.abc import Sequence

from easyq_store.domain import stats
from easyq_store.domain.stats import Cell

_GET = "SELECT counts FROM stat WHERE span = ? AND task_id = ? AND at = ?"
_SET = """
INSERT INTO stat (span, task_id, at, counts) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (span, task_id, at) DO UPDATE SET counts = ?4
"""
RANGE = "SELECT at, counts FROM stat WHERE span = ? AND task_id = ? AND at >= ? AND at < ? ORDER BY at"
DELETE = """
DELETE FROM stat WHERE (span, task_id, at) IN (
    SELECT span, task_id, at FROM stat INDEXED BY stat_age WHERE span = ? AND at < ? ORDER BY at LIMIT ?)
"""


def add_cells(connection: sqlite3.Connection, cells: Sequence[Cell]) -> None:
    """Adds within a transaction: nobody else writes meanwhile."""
    for cell in cells:
        key = (cell.span, cell.task_id, cell.at)
        found = connection.execute(_GET, key).fetchone()
        counts: dict[str, int] = json.loads(found[0]) if found else {}
        stats.add(counts, cell.counts)
        connection.execute(_SET, (*key, json.dumps(counts, separators=(",", ":"))))
