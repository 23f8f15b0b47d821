"""From a job's spec to the body of Docker's create call, within what the agent's settings allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyq_runner.domain import labels
from easyq_runner.domain.records import ContainerSpec, Mount, MountKind, Terms

# Docker knows no "unlimited" for the size of a log file where the daemon's own default has a bound.
_UNBOUNDED = "1000000t"


class NotAllowed(Exception):
    """The job asks for what the agent's settings refuse; the message names the setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostRules:
    """What an agent allows on its host."""

    farm: str
    agent_id: str
    default_network: str
    log_driver: str = "local"
    allow_host_network: bool = False
    allow_privileged: bool = False
    allow_devices: bool = False
    allow_volumes: bool = False
    # Absolute paths, symbolic links resolved.
    allowed_mounts: tuple[str, ...] = ()


def create_body(spec: ContainerSpec, terms: Terms, rules: HostRules, realpath: Callable[[str], str]) -> dict[str, Any]:
    """The JSON body of `POST /containers/create`. `realpath` resolves a path of the host. Raises `NotAllowed`."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in _environment(spec.envs, terms).items()],
        "Labels": labels.labels_of(terms, farm=rules.farm, agent_id=rules.agent_id, users=spec.labels),
        "HostConfig": _host_config(spec, rules, realpath),
    }
    optional = {
        "Cmd": list(spec.command),
        "Entrypoint": list(spec.entrypoint),
        "WorkingDir": spec.workdir,
        "User": spec.user,
    }
    return body | {name: value for name, value in optional.items() if value}


def _environment(envs: Mapping[str, str], terms: Terms) -> dict[str, str]:
    return {
        **envs,
        "EASYQ_EXECUTION_ID": terms.key.execution_id,
        "EASYQ_FENCE": str(terms.fence),
        "EASYQ_JOB_ID": terms.job_id,
        "EASYQ_TASK_ID": terms.task_id,
        "EASYQ_ATTEMPT": str(terms.attempt),
    }


def _host_config(spec: ContainerSpec, rules: HostRules, realpath: Callable[[str], str]) -> dict[str, Any]:
    if spec.privileged and not rules.allow_privileged:
        raise NotAllowed("`privileged` is refused by this agent: its setting `allow_privileged` is off")
    if spec.devices and not rules.allow_devices:
        raise NotAllowed("`devices` are refused by this agent: its setting `allow_devices` is off")
    config: dict[str, Any] = {
        # Whatever the daemon's defaults are: one run, and a log that is never cut.
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": rules.log_driver,
            "Config": {"max-size": _UNBOUNDED, "max-file": "1", "compress": "false", "mode": "blocking"},
        },
        "NetworkMode": _network(spec.network, rules),
        "Init": spec.init,
    }
    optional = {
        "NanoCpus": round(spec.cpus * 1e9),
        "Memory": spec.memory,
        # Equal to Memory: no swap on top of it.
        "MemorySwap": spec.memory,
        "PidsLimit": spec.pids,
        "ShmSize": spec.shm_size,
        "Privileged": spec.privileged,
        "Devices": [_device(text) for text in spec.devices],
        "DeviceRequests": [{"Driver": "", "Count": spec.gpus, "Capabilities": [["gpu"]]}] if spec.gpus else [],
        "Mounts": [_mount(mount, rules, realpath) for mount in spec.mounts],
    }
    return config | {name: value for name, value in optional.items() if value}


def _network(network: str, rules: HostRules) -> str:
    # Docker takes `default` for its own default, which need not be ours.
    if network in {"", "default"}:
        return rules.default_network
    if (network == "host" or network.startswith("container:")) and not rules.allow_host_network:
        raise NotAllowed(f"network `{network}` is refused by this agent: its setting `allow_host_network` is off")
    return network


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    return {
        "PathOnHost": parts[0],
        "PathInContainer": parts[1] if len(parts) > 1 else parts[0],
        "CgroupPermissions": parts[2] if len(parts) > 2 else "rwm",
    }


def _mount(mount: Mount, rules: HostRules, realpath: Callable[[str], str]) -> dict[str, Any]:
    common = {"Target": mount.target, "ReadOnly": mount.read_only}
    if mount.kind is MountKind.TMPFS:
        return {"Type": "tmpfs", **common}
    if mount.kind is MountKind.VOLUME:
        if not rules.allow_volumes:
            raise NotAllowed(f"volume `{mount.source}` is refused by this agent: its setting `allow_volumes` is off")
        return {"Type": "volume", "Source": mount.source, **common}
    if not mount.source.startswith("/"):
        raise NotAllowed(f"mount of `{mount.source}` is refused: the source of a bind is an absolute path")
    # The resolved path is what is mounted, so that a link changed meanwhile leads nowhere else.
    source = realpath(mount.source)
    if not any(_below(source, root) for root in rules.allowed_mounts):
        raise NotAllowed(
            f"mount of `{mount.source}` is refused by this agent: it is below no folder of its setting `allowed_mounts`"
        )
    return {"Type": "bind", "Source": source, **common}


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
