"""May a form change something? Without accounts nothing tells users apart, but browsers tell pages apart."""

from __future__ import annotations

FORM = "application/x-www-form-urlencoded"
_OURS = frozenset({"same-origin", "none"})


def form_refusal(*, origin: str | None, fetch_site: str | None, content_type: str) -> str | None:
    """Returns why a POST of a form is refused, or None where it came from a page of ours.

    Browsers say by `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/) how page and target are related, and no
    page can make them say otherwise. Older ones name the page by `Origin`, which has been checked by then as that of
    any request. Who says neither is no browser of today: programs have the API.
    """
    if content_type != FORM:
        return f"the body of a form must be {FORM}; programs use the API (/docs)"
    if fetch_site is not None:
        return None if fetch_site in _OURS else "the form is on a page of another site"
    if origin is None:
        return "the request does not say which page it comes from; programs use the API (/docs)"
    return None
