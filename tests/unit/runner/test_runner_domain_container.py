"""Spec to container, images and pulls, labels."""

from typing import Any

import pytest

from easyq_runner.domain import images, labels
from easyq_runner.domain.container import HostRules, NotAllowed, create_body
from easyq_runner.domain.images import DOCKER_HUB, parse_reference, resolve_mode
from easyq_runner.domain.pulling import (
    BeforeCreate,
    LocalImage,
    after_looking,
    before_looking,
    when_missing,
    when_refused,
    when_unreachable,
)
from easyq_runner.domain.records import (
    ContainerSpec,
    ExecutionKey,
    FailureReason,
    Mount,
    MountKind,
    OnLost,
    OutcomeKind,
    PullMode,
    Terms,
)

TERMS = Terms(key=ExecutionKey("e", 3), task_id="t", job_id="j", attempt=2, fence=9, log_limit=10)
RULES = HostRules(farm="f", agent_id="a", default_network="none")
OPEN = HostRules(
    farm="f",
    agent_id="a",
    default_network="bridge",
    allow_devices=True,
    allow_host_network=True,
    allow_privileged=True,
    allow_volumes=True,
    allowed_mounts=("/data", "/"),
)


def body(rules: HostRules = RULES, **spec: Any) -> dict[str, Any]:
    links = {"/data/link": "/etc/shadow", "/home/link": "/data/x"}
    return create_body(ContainerSpec(image="i", **spec), TERMS, rules, lambda path: links.get(path, path))


def test_bare_spec_leaves_the_image_its_own() -> None:
    made = body()
    assert {"Cmd", "Entrypoint", "WorkingDir", "User"}.isdisjoint(made)
    assert made["Image"] == "i"
    host = made["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["NetworkMode"] == "none"
    assert {"Memory", "NanoCpus", "Privileged", "Mounts", "Devices"}.isdisjoint(host)


def test_log_is_kept_whole_whatever_the_daemons_defaults() -> None:
    assert body()["HostConfig"]["LogConfig"] == {
        "Type": "local",
        "Config": {"max-size": "1000000t", "max-file": "1", "compress": "false", "mode": "blocking"},
    }


def test_environment_ends_with_ours() -> None:
    made = body(envs={"A": "1", "EASYQ_FENCE": "forged"})
    assert sorted(made["Env"]) == [
        "A=1",
        "EASYQ_ATTEMPT=2",
        "EASYQ_EXECUTION_ID=e",
        "EASYQ_FENCE=9",
        "EASYQ_JOB_ID=j",
        "EASYQ_TASK_ID=t",
    ]


def test_everything_that_a_spec_may_say() -> None:
    made = body(
        command=("a", "b"),
        entrypoint=("e",),
        workdir="/w",
        user="1:2",
        network="mine",
        init=True,
        shm_size=64,
        cpus=0.5,
        memory=1 << 24,
        pids=7,
        gpus=-1,
    )
    assert (made["Cmd"], made["Entrypoint"], made["WorkingDir"], made["User"]) == (["a", "b"], ["e"], "/w", "1:2")
    host = made["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (
        500_000_000,
        1 << 24,
        1 << 24,
        7,
    )
    assert (host["NetworkMode"], host["Init"], host["ShmSize"]) == ("mine", True, 64)
    assert host["DeviceRequests"] == [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]


@pytest.mark.parametrize(
    ("spec", "setting"),
    [
        ({"privileged": True}, "allow_privileged"),
        ({"devices": ("/dev/kvm",)}, "allow_devices"),
        ({"network": "host"}, "allow_host_network"),
        ({"network": "container:x"}, "allow_host_network"),
        (
            {"mounts": (Mount(kind=MountKind.VOLUME, source="v", target="/v", read_only=False),)},
            "allow_volumes",
        ),
        (
            {"mounts": (Mount(kind=MountKind.BIND, source="/data", target="/v", read_only=True),)},
            "allowed_mounts",
        ),
    ],
)
def test_refusals_name_the_setting(spec: dict[str, Any], setting: str) -> None:
    with pytest.raises(NotAllowed, match=setting):
        body(**spec)
    assert body(OPEN, **spec)


def test_devices() -> None:
    made = body(OPEN, devices=("/dev/a", "/dev/a:/dev/b", "/dev/a:/dev/b:r"))["HostConfig"]["Devices"]
    assert [(one["PathInContainer"], one["CgroupPermissions"]) for one in made] == [
        ("/dev/a", "rwm"),
        ("/dev/b", "rwm"),
        ("/dev/b", "r"),
    ]


def test_default_network_by_dockers_name_is_ours() -> None:
    assert body(network="default")["HostConfig"]["NetworkMode"] == "none"


def bind(source: str, **allowed: Any) -> dict[str, Any]:
    rules = HostRules(farm="f", agent_id="a", default_network="none", **allowed)
    mount = Mount(kind=MountKind.BIND, source=source, target="/t", read_only=True)
    mounted: dict[str, Any] = body(rules, mounts=(mount,))["HostConfig"]["Mounts"][0]
    return mounted


def test_binds_below_an_allowed_folder() -> None:
    expected = {"Type": "bind", "Source": "/data/x", "Target": "/t", "ReadOnly": True}
    assert bind("/data/x", allowed_mounts=("/data",)) == expected
    assert bind("/data", allowed_mounts=("/data",))["Source"] == "/data"
    # What is mounted is what was checked.
    assert bind("/home/link", allowed_mounts=("/data",)) == expected


@pytest.mark.parametrize("source", ["/database", "/", "/data/link", "data", ""])
def test_binds_elsewhere_are_refused(source: str) -> None:
    with pytest.raises(NotAllowed):
        bind(source, allowed_mounts=("/data",))


def test_tmpfs_needs_no_permission() -> None:
    mount = Mount(kind=MountKind.TMPFS, source="", target="/t", read_only=False)
    assert body(mounts=(mount,))["HostConfig"]["Mounts"] == [{"Type": "tmpfs", "Target": "/t", "ReadOnly": False}]


# ----------------------------------------------------------------------------------------------------------- labels
def test_labels_tell_all_that_an_adopter_needs() -> None:
    terms = Terms(
        key=ExecutionKey("e", 3),
        task_id="t",
        job_id="j",
        attempt=2,
        fence=9,
        log_limit=10,
        timeout=2.5,
        stop_grace=0.0,
        on_lost=OnLost.WAIT,
        memory_limited=True,
    )
    made = labels.labels_of(terms, farm="f", agent_id="a", users={"team": "x", "easyq.farm": "forged"})
    assert (made["team"], made["easyq.farm"]) == ("x", "f")
    assert labels.terms_of(made) == terms
    assert labels.is_own(made, farm="f", agent_id="a")
    assert not labels.is_own(made, farm="f", agent_id="b")
    assert not labels.is_own(made, farm="g", agent_id="a")
    assert labels.terms_of({}) is None
    assert labels.terms_of({**made, "easyq.epoch": "x"}) is None
    assert labels.container_name("e") == "easyq-e"


# ----------------------------------------------------------------------------------------------------------- images
@pytest.mark.parametrize(
    ("text", "repository", "version", "registry"),
    [
        ("busybox", "busybox", "latest", DOCKER_HUB),
        ("library/busybox:1", "library/busybox", "1", DOCKER_HUB),
        ("docker.io/library/busybox", "docker.io/library/busybox", "latest", DOCKER_HUB),
        ("localhost/a", "localhost/a", "latest", "localhost"),
        ("reg:5000/a", "reg:5000/a", "latest", "reg:5000"),
        ("reg.example:5000/team/a:2", "reg.example:5000/team/a", "2", "reg.example:5000"),
        ("reg.example/a:2@sha256:ab", "reg.example/a", "sha256:ab", "reg.example"),
    ],
)
def test_references(text: str, repository: str, version: str, registry: str) -> None:
    parsed = parse_reference(text)
    assert (parsed.repository, parsed.version, parsed.registry) == (repository, version, registry)
    assert parsed.by_digest == version.startswith("sha256:")


@pytest.mark.parametrize(
    ("mode", "image", "expected"),
    [
        (PullMode.NEVER, "a", PullMode.NEVER),
        (PullMode.UNSPECIFIED, "a", PullMode.ALWAYS),
        (PullMode.UNSPECIFIED, "a:latest", PullMode.ALWAYS),
        (PullMode.UNSPECIFIED, "a:1", PullMode.MISSING),
        (PullMode.UNSPECIFIED, "a@sha256:ab", PullMode.MISSING),
    ],
)
def test_what_an_unset_mode_means(mode: PullMode, image: str, expected: PullMode) -> None:
    assert resolve_mode(mode, images.parse_reference(image)) is expected


def test_pull_decisions() -> None:
    pulled, own = (LocalImage(image_id="i", known_to_registry=known) for known in (True, False))
    assert before_looking(PullMode.ALWAYS) is BeforeCreate.LOOK
    assert before_looking(PullMode.MISSING) is before_looking(PullMode.NEVER) is BeforeCreate.NOTHING
    tag, digest = parse_reference("a:1"), parse_reference("a@sha256:ab")
    assert after_looking(tag, None) is after_looking(tag, pulled) is BeforeCreate.PULL
    assert after_looking(tag, own) is BeforeCreate.KEEP_LOCAL
    assert after_looking(digest, pulled) is BeforeCreate.NOTHING
    assert after_looking(digest, None) is BeforeCreate.PULL


def test_ends_by_images() -> None:
    assert when_missing(PullMode.MISSING, "a", "no such image", pulled=False) is None
    local = LocalImage(image_id="i", known_to_registry=True)
    ends = [
        when_missing(PullMode.NEVER, "a", "no such image", pulled=False),
        when_missing(PullMode.ALWAYS, "a", "another platform", pulled=True),
        when_refused("a", "denied"),
        when_unreachable("a", "refused", None, fallback=True),
        when_unreachable("a", "refused", local, fallback=False),
    ]
    told = [(end.outcome, end.failure.reason) for end in ends if end and end.failure]
    assert (
        told
        == [(OutcomeKind.REJECTED, FailureReason.IMAGE_NOT_FOUND)] * 3
        + [(OutcomeKind.INFRA_FAILED, FailureReason.PULL_FAILED)] * 2
    )
    assert when_unreachable("a", "refused", local, fallback=True) is None
