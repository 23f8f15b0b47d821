"""Settings of the runner. The only place that reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import docker.errors
from docker.context import ContextAPI
from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq_chassis.errors import FailedPrecondition
from easyq_chassis.redaction import DEFAULT_SEGMENTS
from easyq_chassis.settings import ServiceSettings, ops_listen
from easyq_runner.domain.sizes import parse_size

_DEFAULT_SOCKET = "unix:///var/run/docker.sock"
Size = Annotated[int, BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _separated(value: object) -> object:
    """`a,b` or a list of such as a tuple."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return value
    return tuple(one.strip() for part in parts for one in str(part).split(",") if one.strip())


class RunnerSettings(ServiceSettings):
    """The agent of one Docker host: runs containers for the farm. Each flag is also EASYQ_RUNNER_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_RUNNER_")

    listen: str = Field("", description="Address for health checks: host:port or unix:/path. Empty: none.")
    ops_listen: str = ops_listen("127.0.0.1:10024")
    dispatchers: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1:10013",), min_length=1, description="Addresses of all dispatchers, separated by commas."
    )
    store: str = Field("127.0.0.1:10012", description="Address of the store, which takes the output of containers.")
    data: Path = Field(
        Path("~/.easyq/runner"), description="Folder of the agent's own data: its name, its journal, its lock."
    )

    docker_host: str = Field(
        "",
        description="Docker Engine: unix:///path or tcp://host:port. Empty: DOCKER_HOST, else the current context of "
        "the docker command, else " + _DEFAULT_SOCKET + ".",
    )
    docker_tls: str = Field(
        "",
        description="Folder with ca.pem, cert.pem and key.pem for an engine behind TLS. Empty: what belongs to the "
        "address found; none for an address given here.",
    )
    docker_config: str = Field(
        "", description="Docker's config file with credentials for registries. Empty: the one of the docker command."
    )
    registry_auths: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Credentials for registries, which win: JSON {"registry.example:5000": "user:password"}; docker.io '
        "for Docker's own. Better by environment than by flag.",
    )

    agent_id: str = Field("", pattern=rf"{_NAME}|^$", description="Name of the agent. Empty: one is made, and kept.")
    slots: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 1),
        ge=1,
        le=10_000,
        description="Containers at once. Default: the number of processors, at least 2.",
    )
    pools: Annotated[tuple[str, ...], NoDecode] = Field(
        ("default",), min_length=1, description="Pools that the agent joins, separated by commas."
    )
    labels: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="Marks of the agent, shown with it: key=value, separated by commas."
    )

    cpus: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="Processors for jobs that ask for some, such as 3.5. Default: as many as the engine's machine has.",
    )
    memory: Size | None = Field(
        None,
        gt=0,
        description="Memory for jobs that ask for some, such as 14g. Default: as much as the engine's machine has.",
    )
    gpus: int = Field(0, ge=0, le=1000, description="GPUs for jobs that ask for some.")

    default_network: str = Field(
        "", description="Network of jobs that name none. Empty: bridge where the engine has it, else none."
    )
    log_driver: Literal["local", "json-file"] = Field(
        "local",
        description="How the engine keeps output until it is stored. json-file can't hold bytes that are not UTF-8.",
    )
    pull_fallback: bool = Field(
        False, description="Run an older image that is present when `pull: ALWAYS` can't reach the registry."
    )
    allowed_mounts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Folders of the host that jobs may mount, with all below them, separated by commas."
    )
    allow_volumes: bool = Field(False, description="Jobs may mount named volumes.")
    allow_host_network: bool = Field(
        False, description="Jobs may use the network of the host, or of another container."
    )
    allow_devices: bool = Field(False, description="Jobs may use devices of the host.")
    allow_privileged: bool = Field(False, description="Jobs may run privileged, which makes them root on the host.")

    image_cache: Size = Field(
        0,
        ge=0,
        description="Room for images that EasyQ has pulled, such as 20g; beyond it those go that were used least "
        "recently. What was on the host before, or is in use, stays. 0: all are kept.",
    )
    min_free_disk: Size = Field(
        100 * 1024 * 1024,
        ge=0,
        description="With less room than this (100 MiB) on the engine's disk, or the agent's own, it takes no work. "
        "0: nobody looks.",
    )
    orphan_after: float = Field(
        600.0,
        gt=0,
        le=31_536_000,
        description="Seconds after which containers of the farm that another agent has left on this host, and no "
        "execution claims, are ended and removed. Never before the farm would have given that agent up.",
    )
    monitor_backoff_min: float = Field(
        0.5, gt=0, le=3600, description="Seconds until a container is asked after again that the engine failed to show."
    )
    monitor_backoff_max: float = Field(
        30.0, gt=0, le=3600, description="The same at most, after several failures in a row."
    )
    engine_lost_after: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="Seconds that the engine may be away before the containers that ran are reported as lost.",
    )

    redact_names: Annotated[tuple[str, ...], NoDecode] = Field(
        DEFAULT_SEGMENTS,
        description="Parts of names of environment variables whose values never stand in an execution's error; as the "
        "gateway's.",
    )

    @field_validator("dispatchers", "pools", "allowed_mounts", "redact_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _separated(value)

    @field_validator("labels", mode="before")
    @classmethod
    def _split_labels(cls, value: object) -> object:
        parts = _separated(value)
        if not isinstance(parts, tuple):
            return value
        pairs = [part.partition("=") for part in parts]
        if not all(key and equals for key, equals, _ in pairs):
            raise ValueError("expected key=value, separated by commas")
        return {key: text for key, _, text in pairs}

    @field_validator("allowed_mounts")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(part.startswith("/") for part in value):
            raise ValueError("expected absolute paths")
        return tuple(str(Path(part).resolve()) for part in value)

    @field_validator("registry_auths")
    @classmethod
    def _with_user(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if not all(":" in secret.get_secret_value() for secret in value.values()):
            raise ValueError('expected "user:password" for each registry')
        return value

    def credentials(self) -> dict[str, tuple[str, str]]:
        """User and password by registry."""
        found = {}
        for registry, secret in self.registry_auths.items():
            user, _, password = secret.get_secret_value().partition(":")
            found[registry] = (user, password)
        return found


class DockerAddress:
    """Where the engine is: its URL, and the paths of ca, certificate and key where it is behind TLS."""

    def __init__(self, url: str, tls: tuple[str, str, str] | None) -> None:
        self.url = url
        self.tls = tls


def find_docker(settings: RunnerSettings, environment: Mapping[str, str] = os.environ) -> DockerAddress:
    """The engine that the settings, the environment or the docker command's context name.

    Raises FailedPrecondition where a context can't be read.
    """
    given = _files(settings.docker_tls) if settings.docker_tls else None
    if settings.docker_host:
        return DockerAddress(settings.docker_host, given)
    if environment.get("DOCKER_HOST"):
        folder = environment.get("DOCKER_CERT_PATH") or str(Path("~/.docker").expanduser())
        return DockerAddress(
            environment["DOCKER_HOST"], given or (_files(folder) if environment.get("DOCKER_TLS_VERIFY") else None)
        )
    try:
        context: Any = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError) as error:
        raise FailedPrecondition(f"the docker command's context can't be read: {error}") from error
    if context is None or not context.Host:
        return DockerAddress(_DEFAULT_SOCKET, given)
    tls = context.TLSConfig
    found = (tls.ca_cert, *tls.cert) if tls else None
    return DockerAddress(str(context.Host).replace("http+unix://", "unix://"), given or found)


def _files(folder: str) -> tuple[str, str, str]:
    root = Path(folder)
    return str(root / "ca.pem"), str(root / "cert.pem"), str(root / "key.pem")
