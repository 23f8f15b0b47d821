"""The log tells of each breaker once when it opens, and once when it closes."""

from structlog.testing import capture_logs

from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.usecases.breaker_news import BreakerNews

COUNTS = Breaker(kind=Kind.HOST, subject="host-a", failures=2, cause="no answer")
OPEN = Breaker(kind=Kind.HOST, subject="host-a", failures=3, until_ms=5, cause="no answer")
IMAGE = Breaker(kind=Kind.IMAGE, subject="host-a", failures=3, until_ms=5, cause="no such host")


def test_what_is_new_is_told() -> None:
    news = BreakerNews()
    with capture_logs() as lines:
        for seen in ([COUNTS], [OPEN], [OPEN], [OPEN, IMAGE], [IMAGE], []):
            news.hear(seen)
    assert [(line["event"], line["kind"], line["subject"], line.get("problem")) for line in lines] == [
        ("breaker_opened", "HOST", "host-a", "no answer"),
        ("breaker_opened", "IMAGE", "host-a", "no such host"),
        ("breaker_closed", "HOST", "host-a", None),
        ("breaker_closed", "IMAGE", "host-a", None),
    ]
    assert lines[0]["failures"] == 3
