"""Secrets are never shown, and a marker that comes back stands for what is stored."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.redaction import MARKER, Redactor, restore, restore_words

REDACTOR = Redactor()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("PASSWORD", True),
        ("DB_PASSWORD", True),
        ("db_password", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("API-TOKEN", True),
        ("KEY", True),
        ("_KEY_", True),
        ("apiKey", True),
        ("APIKey", True),
        ("dbPassword2", False),
        ("app.secret", True),
        ("PGPASSWORD", True),
        ("Authorization", True),
        ("KEYBOARD", False),
        ("MONKEY", False),
        ("TOKENS", False),
        ("PATH", False),
    ],
)
def test_which_names_are_secret(name: str, secret: bool) -> None:
    assert REDACTOR.secret_name(name) is secret
    assert REDACTOR.show(name, "value") == (MARKER if secret else "value")


def test_the_segments_are_a_setting() -> None:
    own = Redactor.of(["pin"])
    assert own.show("CARD_PIN", "1234") == MARKER
    assert own.show("API_TOKEN", "x") == "x"


def test_an_empty_secret_is_shown_as_empty() -> None:
    assert REDACTOR.show("TOKEN", "") == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgres://me:pass@db/x", "postgres://me:[redacted]@db/x"),
        ("redis://:pass@db:6379/0", "redis://:[redacted]@db:6379/0"),
        ("http://a:p@ss@h/ and https://b:q@i", "http://a:[redacted]@h/ and https://b:[redacted]@i"),
        ("http://host:8080/path@x", "http://host:8080/path@x"),
        ("http://me@host/", "http://me@host/"),
        ("https://host/", "https://host/"),
        ("me:pass@host", "me:pass@host"),
        ("https://0123456789abcdef0123@sentry.test/1", "https://[redacted]@sentry.test/1"),
        ("https://a-very-long-name-of-nobody@host/", "https://a-very-long-name-of-nobody@host/"),
        ("https://h/?a=1&access_token=t&b=2", "https://h/?a=1&access_token=[redacted]&b=2"),
        ("https://h/#access_token=t", "https://h/#access_token=[redacted]"),
        (
            "curl https://h/?token=t; echo https://i/?key=u",
            "curl https://h/?token=[redacted]; echo https://i/?key=[redacted]",
        ),
        ("https://h/?page=2&tokens=3", "https://h/?page=2&tokens=3"),
        ("a?token=t", "a?token=t"),
    ],
)
def test_passwords_in_urls(value: str, shown: str) -> None:
    assert REDACTOR.show("URL", value) == shown


def test_only_what_must_change_changes() -> None:
    envs = {"A": "1", "TOKEN": "t", "URL": "x://u:p@h"}
    assert REDACTOR.changes(envs) == {"TOKEN": MARKER, "URL": "x://u:[redacted]@h"}


@pytest.mark.parametrize(
    "value",
    [
        "a." * 65_000 + "://",
        "://" * 40_000,
        "x://" + "a" * 130_000,
        "x://a:" + "b" * 130_000,
        "x://" + "?a" * 65_000,
        "x://" + "?a=" * 43_000,
        "x://@" + "a" * 130_000,
    ],
)
def test_long_values_take_linear_time(value: str) -> None:
    began = time.process_time()
    REDACTOR.show("URL", value)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("name", "value", "marked"),
    [
        ("TOKEN", MARKER, True),
        ("TOKEN", f"x{MARKER}", False),
        ("A", MARKER, False),
        ("URL", f"x://u:{MARKER}@h", True),
        ("URL", f"x://h/{MARKER}", False),
        ("URL", "x://u:p@h", False),
        ("URL", f"x://{MARKER}@h", True),
        ("URL", f"x://h/?token={MARKER}", True),
        ("URL", f"x://h/?page={MARKER}", False),
    ],
)
def test_which_values_stand_for_stored_ones(name: str, value: str, marked: bool) -> None:
    assert REDACTOR.is_marked(name, value) is marked


def test_markers_become_what_is_stored() -> None:
    stored = {"TOKEN": "t", "URL": "x://u:p@h", "OTHER_URL": "x://u:p@h"}
    sent = {"TOKEN": MARKER, "URL": f"x://u:{MARKER}@h", "OTHER_URL": f"x://u:{MARKER}@other", "KEY": MARKER, "A": "1"}
    restored = restore(REDACTOR, sent, stored)
    assert restored.values == {"TOKEN": "t", "URL": "x://u:p@h"}
    # Another host must not get the password of this one.
    assert restored.missing == ("OTHER_URL", "KEY")


@given(
    st.dictionaries(st.sampled_from(["A", "TOKEN", "URL", "MY_KEY"]), st.text(alphabet="ab:/@[redact]", max_size=20))
)
def test_what_was_shown_brings_back_what_was_stored(envs: dict[str, str]) -> None:
    shown = {**envs, **REDACTOR.changes(envs)}
    restored = restore(REDACTOR, shown, envs)
    assert {**shown, **restored.values} == envs


@given(st.text(alphabet="ab1:/@?&=#[redact] token", max_size=60))
def test_what_was_hidden_once_is_hidden(text: str) -> None:
    shown = REDACTOR.show("", f"x://{text}")
    assert REDACTOR.show("", shown) == shown


def test_texts_lose_the_values_of_an_environment() -> None:
    secrets = REDACTOR.secrets_in({"TOKEN": "abcdef", "KEY": "abc", "PLAIN": "seen"})
    assert secrets == ["abcdef"]
    assert REDACTOR.hide("abcdef abc seen x://u:p@h", secrets) == f"{MARKER} abc seen x://u:{MARKER}@h"


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        (["get", "x://u:[redacted]@a"], ["get", "x://u:1@a"]),
        # It has moved.
        (["x://u:[redacted]@a"], ["x://u:1@a"]),
        # As many as before: by their place.
        (["x://u:[redacted]@b", "x://u:[redacted]@b"], ["x://u:2@b", "x://u:3@b"]),
        # One of two that look the same: a guess.
        (["x://u:[redacted]@b"], ["x://u:[redacted]@b"]),
        # Another host.
        (["x://u:[redacted]@c"], ["x://u:[redacted]@c"]),
        (["x://u:new@a"], ["x://u:new@a"]),
        (["[redacted]"], ["[redacted]"]),
    ],
)
def test_words_of_a_command(sent: list[str], back: list[str]) -> None:
    stored = ["x://u:2@b", "x://u:3@b"] if sent[0].endswith("@b") else ["get", "x://u:1@a"]
    assert restore_words(REDACTOR, sent, stored) == back
