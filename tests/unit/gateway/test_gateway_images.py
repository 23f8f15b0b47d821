"""Image references: split at the right colon, checked as Docker would."""

import pytest

from easyq_gateway.domain.images import ImageReference, is_image, parse_image

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "name", "tag", "digest"),
    [
        ("busybox", "", "busybox", "", ""),
        ("busybox:1.36", "", "busybox", "1.36", ""),
        ("library/busybox", "", "library/busybox", "", ""),
        ("my.docker.repo.com/my-send-email-image:latest", "my.docker.repo.com", "my-send-email-image", "latest", ""),
        ("localhost:5000/a/b", "localhost:5000", "a/b", "", ""),
        ("localhost/a", "localhost", "a", "", ""),
        ("registry:5000/a:v1", "registry:5000", "a", "v1", ""),
        ("[::1]:5000/a:v1", "[::1]:5000", "a", "v1", ""),
        (f"registry:5000/a@{DIGEST}", "registry:5000", "a", "", DIGEST),
        (f"a:v1@{DIGEST}", "", "a", "v1", DIGEST),
        ("REGISTRY/a", "REGISTRY", "a", "", ""),
        ("a__b-c/e--f.g", "", "a__b-c/e--f.g", "", ""),
    ],
)
def test_parts(text: str, registry: str, name: str, tag: str, digest: str) -> None:
    assert parse_image(text) == ImageReference(registry=registry, name=name, tag=tag, digest=digest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not an image reference"),
        ("a b", "not an image reference"),
        ("/a", "not an image reference"),
        ("a//b", "not an image reference"),
        ("a/", "not an image reference"),
        ("-a", "not an image reference"),
        ("http://a.b/c", "host:port"),
        ("a.b:port/c", "host:port"),
        ("Busybox", "lower case"),
        ("a/B:1", "lower case"),
        ("a:", "tag"),
        ("a:-x", "tag"),
        ("a:" + "x" * 129, "tag"),
        ("a:b:c", "not an image reference"),
        ("a@", "digest"),
        ("a@sha256:abc", "digest"),
        ("a@sha256:" + "a" * 65, "digest"),
        ("a@" + "a" * 64, "digest"),
        ("a" * 256, "255"),
    ],
)
def test_what_is_no_reference(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_image(text)


@pytest.mark.parametrize(
    ("text", "moving"),
    [
        ("a", True),
        ("a:latest", True),
        ("r:5000/a", True),
        ("a:1", False),
        (f"a:latest@{DIGEST}", False),
        (f"a@{DIGEST}", False),
    ],
)
def test_what_may_stand_for_another_image_tomorrow(text: str, moving: bool) -> None:
    assert parse_image(text).moving is moving


@pytest.mark.parametrize(("text", "is_one"), [("busybox:1.36", True), ("a b", False), (f"a@{DIGEST}x", False)])
def test_whether_it_is_one(text: str, is_one: bool) -> None:
    assert is_image(text) is is_one
