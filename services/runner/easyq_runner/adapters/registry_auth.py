"""Credentials for registries: the agent's settings first, then what `docker login` left on the host."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping

import docker.auth
import docker.errors

from easyq_chassis.logs import get_logger
from easyq_runner.domain.images import DOCKER_HUB


class RegistryCredentials:
    """Looks credentials up for each pull, so that a new `docker login` counts at once.

    `own` holds what the settings say: by registry (`registry.example:5000`, `docker.io`) the user's name and password.
    `config` is the path of Docker's config file; empty for the SDK's own choice (`~/.docker/config.json`, or below
    `DOCKER_CONFIG`). Credential helpers named there are asked too.
    """

    def __init__(self, own: Mapping[str, tuple[str, str]], *, config: str = "") -> None:
        self._own = dict(own)
        self._config = config
        self._log = get_logger()

    async def __call__(self, registry: str) -> str:
        """The value of X-Registry-Auth for a registry as `images.ImageReference` names it; empty for none."""
        user = self._own_login(registry)
        if user is not None:
            return _header({"username": user[0], "password": user[1], "serveraddress": registry})
        # Reads a file, and may run a credential helper.
        found = await asyncio.to_thread(self._of_host, registry)
        return _header(found) if found else ""

    async def login(self, registry: str) -> tuple[str, str] | None:
        """User and password for a registry, where they are known as such."""
        user = self._own_login(registry)
        found = None if user else await asyncio.to_thread(self._of_host, registry)
        if found and found.get("username") and found.get("password"):
            return found["username"], found["password"]
        return user

    def _own_login(self, registry: str) -> tuple[str, str] | None:
        return self._own.get("docker.io" if registry == DOCKER_HUB else registry)

    def _of_host(self, registry: str) -> dict[str, str] | None:
        try:
            config = docker.auth.load_config(config_path=self._config or None)
            found = config.resolve_authconfig(None if registry == DOCKER_HUB else registry)
        except docker.errors.DockerException as error:
            # The registry may be open to all; if not, its refusal tells the user more.
            self._log.warning("registry_credentials_unreadable", registry=registry, error=str(error))
            return None
        return {name.lower(): value for name, value in found.items() if value} if found else None


def _header(credentials: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
