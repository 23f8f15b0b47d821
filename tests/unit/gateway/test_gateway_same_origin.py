"""Which forms are taken."""

import pytest

from easyq_gateway.domain.same_origin import FORM, form_refusal

OWN = "http://127.0.0.1:10000"


@pytest.mark.parametrize(
    ("origin", "fetch_site", "content_type", "taken"),
    [
        (OWN, "same-origin", FORM, True),
        (None, "same-origin", FORM, True),
        (None, "none", FORM, True),
        (OWN, None, FORM, True),
        (None, None, FORM, False),
        (OWN, "cross-site", FORM, False),
        (None, "cross-site", FORM, False),
        (OWN, "same-site", FORM, False),
        (OWN, "", FORM, False),
        (OWN, "same-origin", "text/plain", False),
        (OWN, "same-origin", "multipart/form-data", False),
    ],
)
def test_forms(origin: str | None, fetch_site: str | None, content_type: str, taken: bool) -> None:
    refusal = form_refusal(origin=origin, fetch_site=fetch_site, content_type=content_type)
    assert (refusal is None) == taken
