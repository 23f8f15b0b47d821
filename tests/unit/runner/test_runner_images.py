"""Images: registries that are busy, and the room that what was pulled takes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web

from easyq.v1.job_pb2 import Failure
from easyq.v1.spec_pb2 import Pull
from easyq_runner.adapters.docker_engine import raise_pull_failure
from easyq_runner.adapters.registry_client import RegistryClient, addresses, path_of, seconds
from easyq_runner.domain.images import parse_reference
from easyq_runner.domain.pulling import LocalImage
from easyq_runner.errors import EngineFailed, HostExhausted, NoSuchImage, NotNow, RegistryBusy
from tests.fakes.runner_rig import Rig

HUB_SAYS = (
    "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading"
)


# -------------------------------------------------------------------------------------------------------- shared pulls
async def test_who_asks_in_the_moment_in_which_a_pull_is_given_up_gets_another(rig: Rig) -> None:
    rig.engine.registry.add("reg/a:1")
    gate = rig.engine.gates["pull"] = asyncio.Event()
    await rig.ready()
    images = rig.agent.tools.images
    first = asyncio.create_task(images._shared("reg/a:1", ""))
    await rig.until(lambda: "pull" in rig.engine.calls)
    given_up = asyncio.create_task(images._shared("reg/a:1", ""))
    await rig.until(lambda: images._next)
    given_up.cancel()
    asking = asyncio.create_task(images._shared("reg/a:1", ""))
    await rig.until(given_up.done)
    gate.set()
    await asyncio.gather(first, asking)
    assert len(rig.engine.pulls) == 2


# --------------------------------------------------------------------------------------------------- busy registries
@pytest.mark.parametrize(
    "said",
    [
        HUB_SAYS,
        'error parsing HTTP 429 response body: unexpected end of JSON input: ""',
        "received unexpected HTTP status: 429 Too Many Requests",
        "unexpected status code 429 Too Many Requests: busy",
    ],
)
def test_docker_tells_of_busy_registries_in_these_words(said: str) -> None:
    with pytest.raises(RegistryBusy):
        raise_pull_failure(said)


def test_a_full_disk_is_no_fault_of_the_registry() -> None:
    with pytest.raises(HostExhausted):
        raise_pull_failure("failed to register layer: Error processing tar file: write /x: no space left on device")


async def test_registry_rate_limits(rig: Rig) -> None:
    """PrefectHQ/prefect#12003: registry rate limits fail jobs."""
    rig.registries.wait = 7.5
    rig.engine.registry.add("reg/a:1")
    await rig.ready()
    rig.engine.failures["pull"].append(RegistryBusy(HUB_SAYS))
    one = await rig.farm.ended(rig.run("exit 0", image="reg/a:1"))
    assert (one.state, one.give_back.failure.reason) == ("QUEUED", Failure.Reason.REGISTRY_BUSY)
    assert one.give_back.retry_after.ToMilliseconds() == 7500
    assert "rate limit" in one.failure
    assert rig.registries.asked == ["reg/a:1"]
    # Others' images still run, and the host is well.
    assert (await rig.farm.ended(rig.run("exit 0"))).outcome == "EXITED"
    assert rig.agent.healthy
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_what_the_engine_tells_is_not_asked_again(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["pull"].append(RegistryBusy("429", retry_after=3))
    one = await rig.farm.ended(rig.run("exit 0", image="reg/a:1"))
    assert one.give_back.retry_after.ToMilliseconds() == 3000
    assert not rig.registries.asked


async def test_a_registry_that_does_not_say_is_left_alone_for_a_while(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["pull"].append(RegistryBusy("429"))
    one = await rig.farm.ended(rig.run("exit 0", image="reg/a:1"))
    assert one.give_back.retry_after.ToMilliseconds() == 60_000


async def test_one_question_for_many_that_share_a_pull(rig: Rig) -> None:
    gate = rig.engine.gates["pull"] = asyncio.Event()
    await rig.ready()
    many = [rig.run("exit 0", image="reg/a:1") for _ in range(5)]
    await rig.until(lambda: rig.engine.calls.count("create") == 5 and "pull" in rig.engine.calls)
    rig.engine.failures["pull"].append(RegistryBusy("429"))
    gate.set()
    for one in many:
        assert (await rig.farm.ended(one)).state == "QUEUED"
    assert len(rig.registries.asked) == 1


async def test_local_image_by_setting_where_the_registry_is_busy(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"pull_fallback": True})
    rig.engine.images["reg/a"] = LocalImage(image_id="old", known_to_registry=True)
    await rig.ready()
    rig.engine.failures["pull"].append(RegistryBusy("429"))
    assert (await rig.farm.ended(rig.run("exit 0", image="reg/a", pull=Pull.ALWAYS))).outcome == "EXITED"


# -------------------------------------------------------------------------------------------- asking a registry itself
class FakeRegistry:
    """Answers for manifests with `status` and Retry-After `wait`; with `token` only to who has that."""

    def __init__(self) -> None:
        self.status, self.wait, self.token, self.realm = 429, "12", "", ""
        self.requests: list[tuple[str, str, str]] = []
        self.address = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/token", self._give_token)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _give_token(self, request: web.Request) -> web.Response:
        self.requests.append(("GET", request.path_qs, request.headers.get("Authorization", "")))
        return web.json_response({"token": "T"})

    async def _answer(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        self.requests.append((request.method, request.path, given))
        if self.token and given != self.token:
            scheme, realm = self.token.split()[0], self.realm or f"http://{self.address}/token"
            challenge = f'{scheme} realm="{realm}",service="s",scope="repository:team/a:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(status=self.status, headers={"Retry-After": self.wait} if self.wait else {})


@pytest.fixture
async def fake_registry() -> AsyncIterator[FakeRegistry]:
    made = FakeRegistry()
    runner = await made.start()
    yield made
    await runner.cleanup()


async def nobody(_: str) -> tuple[str, str] | None:
    return None


async def somebody(_: str) -> tuple[str, str] | None:
    return "u", "p"


async def test_retry_after_of_a_registry(fake_registry: FakeRegistry) -> None:
    image = f"{fake_registry.address}/team/a:1"
    assert await RegistryClient(nobody).retry_after(image) == 12
    assert fake_registry.requests == [("HEAD", "/v2/team/a/manifests/1", "")]
    fake_registry.wait = ""
    assert await RegistryClient(nobody).retry_after(image) is None
    fake_registry.status, fake_registry.wait = 200, "9"
    assert await RegistryClient(nobody).retry_after(image) is None


async def test_registry_that_wants_a_login(fake_registry: FakeRegistry) -> None:
    image = f"{fake_registry.address}/team/a@sha256:abc"
    fake_registry.token = "Basic dTpw"
    assert await RegistryClient(somebody).retry_after(image) == 12
    assert await RegistryClient(nobody).retry_after(image) is None
    fake_registry.token = "Bearer T"
    fake_registry.requests.clear()
    assert await RegistryClient(somebody).retry_after(image) == 12
    assert fake_registry.requests[1] == ("GET", "/token?service=s&scope=repository:team/a:pull", "Basic dTpw")
    assert fake_registry.requests[2] == ("HEAD", "/v2/team/a/manifests/sha256:abc", "Bearer T")


async def test_a_token_is_not_asked_for_unencrypted(fake_registry: FakeRegistry) -> None:
    fake_registry.token, fake_registry.realm = "Bearer T", "http://login.example/token"
    assert await RegistryClient(somebody).retry_after(f"{fake_registry.address}/team/a:1") is None
    assert all(method == "HEAD" for method, _, _ in fake_registry.requests)


async def test_registry_that_cannot_be_asked() -> None:
    assert await RegistryClient(nobody).retry_after("127.0.0.1:1/a:1") is None


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("alpine:3", "library/alpine"),
        ("docker.io/library/alpine", "library/alpine"),
        ("team/a", "team/a"),
        ("reg:5000/team/a:1", "team/a"),
    ],
)
def test_names_as_registries_know_them(image: str, name: str) -> None:
    assert path_of(parse_reference(image)) == name


def test_a_login_goes_nowhere_unencrypted() -> None:
    assert addresses(parse_reference("alpine")) == ("https://registry-1.docker.io",)
    assert addresses(parse_reference("reg.example:5000/a")) == ("https://reg.example:5000",)
    assert addresses(parse_reference("localhost:5000/a"))[0] == "http://localhost:5000"


def test_retry_after_as_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert seconds("Thu, 01 Jan 2026 00:01:30 GMT", now=now) == 90
    assert seconds("Thu, 01 Jan 2026 00:00:00 -0000", now=datetime(2026, 1, 1, 1, tzinfo=UTC)) == 0
    assert (seconds("30"), seconds("soon"), seconds("")) == (30, None, None)


# --------------------------------------------------------------------------------------------------- room for images
@pytest.fixture
def small(rig: Rig) -> Rig:
    """Room for two images of 100 bytes; the registry has four."""
    rig.settings = rig.settings.model_copy(update={"image_cache": 250})
    rig.engine.registry |= {f"reg/{name}:1" for name in "abcd"}
    for name in "abcd":
        rig.engine.digests[f"reg/{name}:1"] = f"sha256:{name}"
    return rig


def kept(rig: Rig) -> set[str]:
    return {name.removeprefix("reg/").removesuffix(":1") for name in rig.engine.images if name.startswith("reg/")}


async def use(rig: Rig, *names: str) -> None:
    for name in names:
        rig.clock.ahead += 1
        one = await rig.farm.ended(rig.run("exit 0", image=f"reg/{name}:1"))
        assert one.outcome == "EXITED"
        await rig.tidy()


async def test_images_do_not_fill_the_disk(small: Rig) -> None:
    """hashicorp/nomad#26452: images fill the disk."""
    await small.ready()
    await use(small, "a", "b", "a", "c")
    await small.until(lambda: kept(small) == {"a", "c"}, "the least recently used one goes")
    await use(small, "d")
    await small.until(lambda: kept(small) == {"c", "d"})
    # What went comes again.
    await use(small, "b")
    await small.until(lambda: kept(small) == {"b", "d"})
    assert "busybox" in small.engine.images


async def test_all_are_kept_without_the_setting(small: Rig) -> None:
    small.settings = small.settings.model_copy(update={"image_cache": 0})
    await small.ready()
    await use(small, "a", "b", "c", "d")
    assert kept(small) == {"a", "b", "c", "d"}
    assert "remove_image" not in small.engine.calls
    # Known all the same, should the setting come later.
    assert len(small.images.cache) == 4


async def test_what_was_pulled_is_known_after_a_restart(small: Rig) -> None:
    await small.ready()
    await use(small, "a", "b")
    await small.restart()
    await small.farm.until_connected()
    await use(small, "c")
    await small.until(lambda: kept(small) == {"b", "c"})


async def test_images_of_others_stay(small: Rig) -> None:
    # One that was there under this name, and one under another.
    small.engine.images["reg/a:1"] = LocalImage(image_id="sha256:a", known_to_registry=True, size=1000)
    small.engine.images["mine:1"] = LocalImage(image_id="sha256:b", known_to_registry=True, size=1000, tags=("mine:1",))
    await small.ready()
    await use(small, "a", "b", "c", "d")
    assert set(small.images.cache) == {"sha256:c", "sha256:d"}
    assert kept(small) == {"a", "b", "c", "d"}


async def test_an_image_that_somebody_has_given_a_name_stays(small: Rig) -> None:
    await small.ready()
    await use(small, "a")
    pulled = small.engine.images["reg/a:1"]
    small.engine.images["reg/a:1"] = LocalImage(
        image_id=pulled.image_id, known_to_registry=True, size=100, tags=("reg/a:1", "mine:1")
    )
    await use(small, "b", "c")
    await small.until(lambda: "sha256:a" not in small.images.cache)
    assert kept(small) == {"a", "b", "c"}


async def test_images_in_use_stay(small: Rig) -> None:
    await small.ready()
    running = small.run("sleep 60", image="reg/a:1")
    await small.farm.is_running(running)
    for name in "bcd":
        small.clock.ahead += 1
        await small.farm.ended(small.run("exit 0", image=f"reg/{name}:1"))
    await small.until(lambda: len(kept(small)) == 2)
    assert kept(small) == {"a", "d"}


async def test_an_image_that_is_about_to_be_used_stays(small: Rig) -> None:
    await small.ready()
    await use(small, "a", "b")
    gate = small.engine.gates["create"] = asyncio.Event()
    waiting = small.run("exit 0", image="reg/a:1")
    await small.until(lambda: small.engine.calls.count("create") > 4)
    small.agent._cache._limit = 150
    await small.agent._cache._tidy()
    assert kept(small) == {"a"}
    gate.set()
    assert (await small.farm.ended(waiting)).outcome == "EXITED"
    assert small.engine.pulls.count("reg/a:1") == 1


async def test_an_image_that_is_being_removed_is_waited_for_and_pulled_again(small: Rig) -> None:
    await small.ready()
    await use(small, "a", "b")
    gate = small.engine.gates["remove_image"] = asyncio.Event()
    small.clock.ahead += 1
    await small.farm.ended(small.run("exit 0", image="reg/c:1"))
    await small.until(lambda: "remove_image" in small.engine.calls)
    tried = small.engine.calls.count("create")
    again = small.run("exit 0", image="reg/a:1", pull=Pull.MISSING)
    await small.until(small.agent.agent.inventory)
    await asyncio.sleep(0.05)
    assert small.engine.calls.count("create") == tried
    gate.set()
    assert (await small.farm.ended(again)).outcome == "EXITED"
    assert small.engine.pulls.count("reg/a:1") == 2


async def test_removals_that_fail_are_tried_again(small: Rig) -> None:
    await small.ready()
    small.engine.failures["remove_image"] += [NotNow("in use"), EngineFailed("busy")]
    await use(small, "a", "b", "c")
    cache = small.agent._cache
    for _ in range(3):
        await cache._tidy()
    assert kept(small) == {"b", "c"}
    small.engine.failures["remove_image"] += [NoSuchImage("gone")]
    await use(small, "d")
    await small.until(lambda: "sha256:b" not in small.images.cache)


async def test_images_are_forgotten_that_others_have_removed(small: Rig) -> None:
    await small.ready()
    await use(small, "a", "b")
    del small.engine.images["reg/a:1"]
    await use(small, "c")
    await small.until(lambda: set(small.images.cache) == {"sha256:b", "sha256:c"})


async def test_notes_that_cannot_be_written_keep_nobody_from_anything(small: Rig) -> None:
    small.images.failure = OSError(28, "No space left on device")
    await small.ready()
    await use(small, "a", "b", "c")
    await small.until(lambda: kept(small) == {"b", "c"})
    small.images.failure = None
    await small.agent._cache._tidy()
    assert set(small.images.cache) == {"sha256:b", "sha256:c"}


async def test_a_pull_whose_image_cannot_be_looked_at_is_a_pull(small: Rig) -> None:
    await small.ready()
    small.engine.failures["image"].append(EngineFailed("busy"))
    await use(small, "a")
    assert not small.images.cache
