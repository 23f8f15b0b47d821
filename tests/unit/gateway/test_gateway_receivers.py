"""Receivers of webhooks: what is refused, what is shown, what a PUT puts back."""

from dataclasses import replace
from typing import Any

import pytest

from easyq.v1.notify_pb2 import Webhook, Webhooks
from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway import convert_receivers
from easyq_gateway.domain.receivers import HookFacts, check_hooks, is_marked_url, restored, show_hook, show_url
from easyq_gateway.domain.redaction import MARKER, Redactor

REDACTOR = Redactor()
PATH = "webhooks.fails[0]"


def hook(url: str = "https://hook.test/x", **fields: Any) -> HookFacts:
    return HookFacts(path=PATH, url=url, **fields)


def problems(*hooks: HookFacts) -> dict[str, str]:
    return {problem.path.removeprefix(PATH): problem.message for problem in check_hooks(hooks, REDACTOR)}


@pytest.mark.parametrize(
    "url",
    [
        "http://a",
        "HTTPS://Hook.test:8443/x/y?z=1#f",
        "http://[::1]:80/",
        "https://user:pw@hook.test/x",
        "http://10.0.0.1?x",
        "http://4.example.com./",
        "http://my_host/",
        "http://0x7f.example/",
    ],
)
def test_urls_that_can_be_called(url: str) -> None:
    assert problems(hook(url)) == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "must be http"),
        ("http:///x", "must be http"),
        ("http://a:b:c/", "must be http"),
        ("http://u@v@w/", "must be http"),
        ("http://a:0/", "port"),
        ("http://a:65536/", "port"),
        ("ftp://a/", "must be http"),
        ("http://[zz]/", "must be http"),
        # Of these the short forms would be tried for ever.
        ("http://127.1:1/", "neither a name nor an address"),
        ("http://2130706433/", "neither a name nor an address"),
        ("http://0x7f000001/", "neither a name nor an address"),
        ("http://1.2.3.4.5/", "neither a name nor an address"),
        ("http://256.0.0.1/", "neither a name nor an address"),
        ("http://127.0.0.1./", "neither a name nor an address"),
        ("http://[1::2::3]/", "neither a name nor an address"),
        ("http://a..b/", "neither a name nor an address"),
        ("http://xn--/", "neither a name nor an address"),
        ("http://./", "neither a name nor an address"),
        (f"http://{'a' * 64}.test/", "neither a name nor an address"),
        ("https://u:[redacted]@a/", "is the mark"),
        ("https://a/?token=[redacted]", "is the mark"),
    ],
)
def test_urls_that_can_not(url: str, message: str) -> None:
    assert message in problems(hook(url))[".url"]


@pytest.mark.parametrize(
    ("headers", "wrong", "message"),
    [
        ({"Host": "x"}, "Host", "is set by EasyQ"),
        ({"EasyQ-Signature": "x"}, "EasyQ-Signature", "is set by EasyQ"),
        ({"content-length": "x"}, "content-length", "is set by EasyQ"),
        ({"X-A": "1", "x-a": "2"}, "x-a", "more than once"),
        ({"Authorization": MARKER}, "Authorization", "is the mark"),
    ],
)
def test_headers_that_are_refused(headers: dict[str, str], wrong: str, message: str) -> None:
    assert message in problems(hook(headers=headers))[f'.headers["{wrong}"]']


def test_one_authorization_and_one_key() -> None:
    found = problems(hook("https://u:p@a/", headers={"authorization": "Bearer x"}, secret="a", secret_name="b"))
    assert set(found) == {".url", ".secretName"}
    assert set(problems(hook(secret=MARKER))) == {".secret"}
    assert problems(hook(headers={"Authorization": "Bearer x"}, secret="a")) == {}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a/x?y=1", "https://a/x?y=1"),
        ("https://u:pw@a/x", "https://u:[redacted]@a/x"),
        ("https://a/?api_key=s&b=2&TOKEN=t#f", "https://a/?api_key=[redacted]&b=2&TOKEN=[redacted]#f"),
        ("https://a/token=x", "https://a/token=x"),
        ("https://a/services/T0/B0/abcdefghij0123456789abcd?x#y", "https://a/services/T0/B0/[redacted]?x#y"),
        ("https://a/0123456789abcdef0123/x", "https://a/[redacted]/x"),
        ("https://abcdefghij0123456789abcd/x", "https://abcdefghij0123456789abcd/x"),
        ("https://a/what-has-happened-to-my-nightly-jobs", "https://a/what-has-happened-to-my-nightly-jobs"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert show_url(url, REDACTOR) == shown
    assert is_marked_url(shown, REDACTOR) is (shown != url)
    assert not is_marked_url(url, REDACTOR)


def test_no_header_and_no_key_is_shown() -> None:
    full = hook(headers={"Authorization": "Bearer x", "X-Empty": ""}, secret="s", secret_name="name")
    shown = show_hook(full, REDACTOR)
    assert shown == replace(full, headers={"Authorization": MARKER, "X-Empty": ""}, secret=MARKER)
    assert show_hook(hook(), REDACTOR) == hook()


def test_what_was_shown_is_put_back() -> None:
    full = hook("https://u:pw@a/?key=k", headers={"Authorization": "Bearer x"}, secret="s")
    other = replace(full, path="webhooks.fails[1]", secret="other")
    assert restored(show_hook(full, REDACTOR), [other, full], REDACTOR) == full
    assert restored(show_hook(other, REDACTOR), [other, full], REDACTOR) == other
    moved = replace(show_hook(full, REDACTOR), path="webhooks.fails[7]")
    assert restored(moved, [full], REDACTOR) == replace(full, path="webhooks.fails[7]")
    # What is sent anew is taken as it is.
    newer = replace(show_hook(full, REDACTOR), secret="new", headers={"X": "y"})
    assert restored(newer, [full], REDACTOR) == replace(full, secret="new", headers={"X": "y"})
    assert restored(full, [other], REDACTOR) == full


def test_receivers_that_look_the_same_are_told_apart_by_their_places() -> None:
    one, two = (
        replace(hook(f"https://chat.test/{key * 24}"), path=f"webhooks.fails[{n}]")
        for n, key in enumerate(["a1", "b2"])
    )
    shown = [show_hook(one, REDACTOR), show_hook(two, REDACTOR)]
    assert shown[0].url == shown[1].url
    assert [restored(each, [one, two], REDACTOR, same_places=True) for each in shown] == [one, two]
    # One of them was taken out, or there are more of them: nobody knows which is which.
    assert restored(shown[0], [one, two], REDACTOR) == shown[0]
    assert ".url" in problems(shown[0])
    assert restored(shown[0], [one, replace(one, path="webhooks.fails[1]")], REDACTOR) == one


def test_another_server_gets_nothing_of_what_was_meant_for_one() -> None:
    full = hook(headers={"Authorization": "Bearer x"}, secret="s")
    stolen = replace(show_hook(full, REDACTOR), url="https://evil.test/x")
    assert restored(stolen, [full], REDACTOR) == stolen
    assert set(problems(stolen)) == {'.headers["Authorization"]', ".secret"}
    # Nor does a mark for what was never there become anything else.
    assert restored(hook(secret=MARKER), [hook()], REDACTOR).secret == MARKER
    assert restored(hook(headers={"X": MARKER}), [hook()], REDACTOR).headers == {"X": MARKER}


def test_specs() -> None:
    spec = JobSpec(image="a", webhooks=Webhooks(fails=[Webhook(url="https://a/", headers={"X": "y"}, secret="s")]))
    shown = JobSpec()
    shown.CopyFrom(spec)
    convert_receivers.redact(shown, REDACTOR)
    assert (shown.webhooks.fails[0].secret, dict(shown.webhooks.fails[0].headers)) == (MARKER, {"X": MARKER})
    assert convert_receivers.are_marked(shown, REDACTOR)
    assert not convert_receivers.are_marked(spec, REDACTOR)
    moved = JobSpec(webhooks=Webhooks(finishes=shown.webhooks.fails))
    convert_receivers.restore(shown, spec, REDACTOR)
    assert shown == spec
    # Of another event, it is another receiver.
    convert_receivers.restore(moved, spec, REDACTOR)
    assert moved.webhooks.finishes[0].secret == MARKER
