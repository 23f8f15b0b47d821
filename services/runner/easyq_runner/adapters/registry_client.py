"""`Registries` over the distribution API: asks for a manifest, as an engine does, and reads the head of the answer."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from easyq_chassis.logs import get_logger
from easyq_runner.domain.images import DOCKER_HUB, ImageReference, familiar, parse_reference

#: User and password for a registry as `images.ImageReference` names it; None: nobody in particular.
Logins = Callable[[str], Awaitable[tuple[str, str] | None]]

_HUB_ADDRESS = "registry-1.docker.io"
_TYPES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
# Seconds.
_PATIENCE = 5.0


class RegistryClient:
    """Asks registries directly. Whatever goes wrong, the answer is None: it is only a hint."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._log = get_logger()

    async def retry_after(self, reference: str) -> float | None:
        image = parse_reference(reference)
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        for base in addresses(image):
            try:
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    return await self._ask(session, base, image)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._log.debug("registry_not_asked", registry=base, error=str(error))
        return None

    async def _ask(self, session: aiohttp.ClientSession, base: str, image: ImageReference) -> float | None:
        path = path_of(image)
        url = f"{base}/v2/{path}/manifests/{image.version}"
        headers = {"Accept": ", ".join(_TYPES)}
        async with session.head(url, headers=headers) as answer:
            status, told = answer.status, answer.headers
        if status == HTTPStatus.UNAUTHORIZED:
            login = await self._logins(image.registry)
            authorization = await _authorize(session, told.get("WWW-Authenticate", ""), login)
            async with session.head(url, headers={**headers, **authorization}) as answer:
                status, told = answer.status, answer.headers
        return seconds(told.get("Retry-After", "")) if status == HTTPStatus.TOO_MANY_REQUESTS else None


def addresses(image: ImageReference) -> tuple[str, ...]:
    """Where the registry may be. Plain HTTP is for registries of the same machine, as engines have it by default."""
    host = _HUB_ADDRESS if image.registry == DOCKER_HUB else image.registry
    return (f"http://{host}", f"https://{host}") if _is_near(host) else (f"https://{host}",)


def seconds(text: str, *, now: datetime | None = None) -> float | None:
    """A Retry-After: seconds, or a date. None where it is neither."""
    if text.strip().isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def path_of(image: ImageReference) -> str:
    """The image's name as its registry knows it."""
    if image.registry == DOCKER_HUB:
        name = familiar(image.repository)
        return name if "/" in name else f"library/{name}"
    return image.repository.partition("/")[2]


def _is_near(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


async def _authorize(
    session: aiohttp.ClientSession, challenge: str, login: tuple[str, str] | None
) -> Mapping[str, str]:
    """The header that answers a challenge: the login itself, or a token that is given for it (or for nothing)."""
    scheme, _, rest = challenge.partition(" ")
    basic = {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()} if login else {}
    if scheme.lower() != "bearer":
        return basic
    fields = dict(_CHALLENGE.findall(rest))
    realm = fields.pop("realm", "")
    if not realm.startswith("https://") and not _is_near(urlsplit(realm).netloc):
        raise ValueError(f"a registry wants a login at {realm}, which is not encrypted")
    async with session.get(realm, params=fields, headers=basic) as answer:
        told = await answer.json(content_type=None)
    return {"Authorization": f"Bearer {told.get('token') or told.get('access_token') or ''}"}
