"""Receivers of webhooks: rules that the schema can't say, and how they are shown. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from easyq_gateway.domain.problems import Problem, key_path
from easyq_gateway.domain.redaction import MARKER, Redactor, looks_like_key

_URL = re.compile(
    r"[hH][tT][tT][pP][sS]?://(?:(?P<user>[^@/?#]*)@)?(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]@:/?#]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?"
)
# A piece of the path. Chat services have the key of their webhooks there.
_PIECE = re.compile(r"(?<=[^/:]/)[A-Za-z0-9_.~-]{20,}(?=[/?#]|$)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
# What DNS has room for.
_LONGEST_LABEL = 63
# Set by EasyQ, or by what HTTP is made of.
_OURS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_MARKED = "is the mark of a value that was not shown, and none is stored for it; send the value itself"


@dataclass(frozen=True, kw_only=True, slots=True)
class HookFacts:
    """One receiver. `path` is where it stands in the spec."""

    path: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    secret_name: str = ""


def check_hooks(hooks: Sequence[HookFacts], redactor: Redactor) -> Iterator[Problem]:
    """Yields what is wrong, with paths relative to the spec."""
    for hook in hooks:
        yield from _check_url(hook, redactor)
        yield from _check_headers(hook)
        if hook.secret and hook.secret_name:
            yield Problem(path=f"{hook.path}.secretName", message="only one of secret and secretName may be set")
        if hook.secret == MARKER:
            yield Problem(path=f"{hook.path}.secret", message=_MARKED)


def _check_url(hook: HookFacts, redactor: Redactor) -> Iterator[Problem]:
    path = f"{hook.path}.url"
    match = _URL.fullmatch(hook.url)
    if match is None:
        # Its pattern, where it has not even that, is the schema's.
        yield Problem(path=path, message="must be http://host[:port]/… or https://host[:port]/…")
    elif match["port"] and not 0 < int(match["port"]) < 65_536:
        yield Problem(path=path, message="has a port that is none")
    elif not is_callable(match["host"]):
        yield Problem(path=path, message="has a host that is neither a name nor an address (127.0.0.1, [::1])")
    elif match["user"] and any(name.lower() == "authorization" for name in hook.headers):
        yield Problem(path=path, message="names a user, and headers an Authorization: only one can be sent")
    if is_marked_url(hook.url, redactor):
        yield Problem(path=path, message=_MARKED)


def is_callable(host: str) -> bool:
    """Whether a URL's host is a name that could be resolved, or an address in the one form that is called.

    What ends in a number is an address everywhere (https://url.spec.whatwg.org/#ends-in-a-number-checker); its short
    forms (127.1, 2130706433) mean different things to different programs, and nobody resolves them here.
    """
    if host.startswith("["):
        return _is(ipaddress.IPv6Address, host.strip("[]"))
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _is(ipaddress.IPv4Address, host)
    # A prefix alone (https://www.rfc-editor.org/rfc/rfc5890) stands for nothing.
    return all(0 < len(label) <= _LONGEST_LABEL and label.lower() != "xn--" for label in labels)


def _is(kind: Callable[[str], object], host: str) -> bool:
    try:
        kind(host)
    except ValueError:
        return False
    return True


def _check_headers(hook: HookFacts) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, value in hook.headers.items():
        path, lower = key_path(f"{hook.path}.headers", name), name.lower()
        if lower in _OURS or lower.startswith("easyq-"):
            yield Problem(path=path, message="is set by EasyQ")
        elif lower in seen:
            yield Problem(path=path, message="is there more than once, in other letters")
        elif value == MARKER:
            yield Problem(path=path, message=_MARKED)
        seen.add(lower)


def show_url(url: str, redactor: Redactor) -> str:
    """The URL without its password, without values of secret-looking parameters and without keys in its path."""
    shown = redactor.show("", url)
    end = next((index for index, letter in enumerate(shown) if letter in "?#"), len(shown))
    return _PIECE.sub(lambda piece: MARKER if looks_like_key(piece[0]) else piece[0], shown[:end]) + shown[end:]


def is_marked_url(url: str, redactor: Redactor) -> bool:
    """Whether something of the URL stands for what was not shown."""
    return MARKER in url and show_url(url, redactor) == url


def show_hook(hook: HookFacts, redactor: Redactor) -> HookFacts:
    """The receiver as it may be shown: no header's value is."""
    return replace(
        hook,
        url=show_url(hook.url, redactor),
        headers={name: MARKER if value else value for name, value in hook.headers.items()},
        secret=MARKER if hook.secret else "",
    )


def is_marked(hook: HookFacts, redactor: Redactor) -> bool:
    """Whether something of the receiver stands for what was not shown."""
    return hook.secret == MARKER or MARKER in hook.headers.values() or is_marked_url(hook.url, redactor)


def restored(
    hook: HookFacts, stored: Sequence[HookFacts], redactor: Redactor, *, same_places: bool = False
) -> HookFacts:
    """The receiver with the stored values in place of marks.

    `stored` are those of the same event. Only one that is shown with the very same URL gives its values: they were
    meant for that server, and no other is to get them. Where several are shown alike and have different URLs, it is the
    one in the same place, as long as there are as many as before (`same_places`).
    """
    if not is_marked(hook, redactor):
        return hook
    shown = show_url(hook.url, redactor)
    # The one in the same place first.
    near = sorted(stored, key=lambda known: known.path != hook.path)
    like = [one for one in near if show_url(one.url, redactor) == shown]
    if not like or (len({one.url for one in like}) > 1 and not (same_places and like[0].path == hook.path)):
        return hook
    known = like[0]
    headers = {
        name: known.headers.get(name, value) if value == MARKER else value for name, value in hook.headers.items()
    }
    return replace(
        hook,
        url=known.url if is_marked_url(hook.url, redactor) else hook.url,
        headers=headers,
        secret=(known.secret or MARKER) if hook.secret == MARKER else hook.secret,
    )
