"""Which processes make up the system, and what each is told. Pure: paths and addresses are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from easyq_supervisor.domain.hosts import DockerHost
from easyq_supervisor.domain.options import DEFAULT_LOG_LEVEL, DEFAULT_TRACE_RATE, Options
from easyq_supervisor.domain.rules import Rules, rules_tables
from easyq_supervisor.domain.toml import dump

#: The services that read the rules file, and read it again when it changes.
RULES_READERS = ("store", "dispatcher", "gateway")

_RULES_HEAD = """\
# Written by `easyq up` from its flags and its config file, and written anew when that changes: change that one.

"""

#: How they are ended: wave after wave, each at once. Whoever another needs to end well is in a later wave: agents park
#: their sessions through the dispatcher and the store.
STOP_WAVES = (("gateway", "scheduler", "runner"), ("dispatcher",), ("store",), ("redis",))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSpec:
    """One process: what it is called in the log, its kind (a name of STOP_WAVES), how it is started."""

    name: str
    kind: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    #: What to say where it ends by itself, in order: it is not started again. Empty: that is a crash like any other.
    farewell: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentPlan:
    """One agent: its id, its Docker Engine (`is_default`: the one that this user's docker command uses), and the folder
    of its journal."""

    agent_id: str
    host: DockerHost
    data: str
    is_default: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the plan needs to know of this machine: folders, the ports that were found free, programs."""

    #: Name of the farm.
    farm: str
    data: str
    run: str
    #: Path of the rules file.
    rules: str
    rest_port: int
    grpc_port: int
    #: Of metrics and health, in the order of `served`: one for each at least.
    metrics_ports: tuple[int, ...]
    #: Of `easyq up` itself.
    pid: int
    python: str
    #: Path of the bundled Redis-protocol server; only used where no other Redis is named.
    valkey: str
    #: Form of the services' logs: `console` for people, `json` for programs.
    log_format: str


def served(agents: int) -> list[str]:
    """The names of the processes that serve metrics where there are so many agents, in the order of their ports."""
    runners = ["runner"] if agents == 1 else [f"runner-{number}" for number in range(1, agents + 1)]
    return ["gateway", "scheduler", "store", "dispatcher", *runners]


def plan(options: Options, around: Surroundings, agents: Sequence[AgentPlan]) -> list[ProcessSpec]:
    """Every process of the system, in the order in which they are started."""
    address = {name: f"unix:{around.run}/{name}.sock" for name in ("store", "scheduler", "dispatcher")}
    redis = options.redis or f"unix://{around.run}/redis.sock"
    specs = [] if options.redis else [_embedded_redis(around, options.log_level)]
    rate = {} if options.trace_rate == DEFAULT_TRACE_RATE else {"trace_rate": f"{options.trace_rate:g}"}
    services: list[tuple[str, str, dict[str, str]]] = [
        ("store", "store", {"listen": address["store"], **_database(options, around), **_told(options), **rate}),
        (
            "dispatcher",
            "dispatcher",
            {
                "listen": address["dispatcher"],
                "store": address["store"],
                "redis": redis,
                # All that there is to say stands in the rules file.
                "pools": "",
                "limits": "",
                "weights": "",
            },
        ),
        (
            "scheduler",
            "scheduler",
            {"listen": address["scheduler"], "store": address["store"], "dispatchers": address["dispatcher"]},
        ),
        (
            "gateway",
            "gateway",
            {
                "rest_listen": f"127.0.0.1:{around.rest_port}",
                "grpc_listen": f"127.0.0.1:{around.grpc_port}",
                "store": address["store"],
                "schedulers": address["scheduler"],
                "dispatchers": address["dispatcher"],
                **rate,
            },
        ),
        *(
            (
                "runner" if len(agents) == 1 else f"runner-{number}",
                "runner",
                {
                    "dispatchers": address["dispatcher"],
                    "store": address["store"],
                    # The docker command's own choice may come with certificates: the agent finds it like that command.
                    **({} if agent.is_default else {"docker_host": agent.host.url}),
                    "pools": ",".join(agent.host.pools),
                    **agent.host.offer.settings(options.offer),
                    "agent_id": agent.agent_id,
                    "data": agent.data,
                },
            )
            for number, agent in enumerate(agents, 1)
        ),
    ]
    common = {
        "farm": around.farm,
        # The default is each service's own, so that its variable holds: EASYQ_STORE_LOG_LEVEL=debug easyq up.
        **({} if options.log_level == DEFAULT_LOG_LEVEL else {"log_level": options.log_level}),
        "log_format": around.log_format,
        # The waves end one after the other within the whole grace.
        "shutdown_grace": f"{options.grace / (len(STOP_WAVES) + 1):.2f}",
        **_handlers(options),
    }
    if options.otlp_endpoint:
        common |= {"otlp_endpoint": options.otlp_endpoint, "trace_ratio": str(options.trace_ratio)}
    metrics = dict(zip(served(len(agents)), around.metrics_ports, strict=False))
    return specs + [
        _service(name, kind, {**common, "ops_listen": f"127.0.0.1:{metrics[name]}", **settings}, around)
        for name, kind, settings in services
    ]


def rules_text(rules: Rules) -> str:
    """What the rules file says. Raises ValueError where a text in it can't be written."""
    return _RULES_HEAD + dump(rules_tables(rules))


def _service(name: str, kind: str, settings: Mapping[str, str], around: Surroundings) -> ProcessSpec:
    prefix = f"EASYQ_{kind.upper()}_"
    if kind in RULES_READERS:
        settings = {**settings, "rules": around.rules}
    return ProcessSpec(
        name=name,
        kind=kind,
        argv=(around.python, "-m", f"easyq_{kind}"),
        env={f"{prefix}{key.upper()}": value for key, value in settings.items()},
        farewell=_farewell(settings["agent_id"], around) if kind == "runner" else "",
    )


def _farewell(agent_id: str, around: Surroundings) -> str:
    return (
        f"agent {agent_id} was drained, or told to stop, and has ended; it is not started again. To have it back: "
        f"curl -XDELETE http://127.0.0.1:{around.rest_port}/agents/{agent_id}/drain && kill -HUP {around.pid}"
    )


def _database(options: Options, around: Surroundings) -> dict[str, str]:
    return {"database": options.mongo or f"sqlite:///{around.data}/easyq.db"}


def _handlers(options: Options) -> dict[str, str]:
    """Who is told of errors; what isn't said is left to the environment."""
    said = {
        "error_handlers": ",".join(options.error_handlers),
        "sentry_dsn": options.sentry_dsn,
        "sentry_environment": options.sentry_environment,
    }
    return {name: value for name, value in said.items() if value}


def _told(options: Options) -> dict[str, str]:
    return {"report_failures": options.report_failures} if options.report_failures else {}


def _embedded_redis(around: Surroundings, log_level: str) -> ProcessSpec:
    """It keeps nothing on disk (the dispatcher fills it from the store) and has no port."""
    settings = {
        "port": "0",
        "unixsocket": f"{around.run}/redis.sock",
        "unixsocketperm": "700",
        "dir": around.run,
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        # Its title would be written over its environment, by which processes of a farm are found.
        "set-proc-title": "no",
        # At a start it warns of settings of the kernel that only matter to one that keeps something.
        "loglevel": "notice" if log_level == "debug" else "nothing",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ProcessSpec(name="redis", kind="redis", argv=(around.valkey, *flags), env={})
