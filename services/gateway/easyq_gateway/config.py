"""Settings of the gateway."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq_chassis.settings import ServiceSettings, ops_listen, trace_rate
from easyq_gateway.domain.redaction import DEFAULT_SEGMENTS

_MIB = 1024 * 1024

Names = Annotated[tuple[str, ...], NoDecode]


class GatewaySettings(ServiceSettings):
    """The gateway: the public API as gRPC and as REST. Each flag is also EASYQ_GATEWAY_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_GATEWAY_")

    rest_listen: str = Field(
        "127.0.0.1:10000",
        pattern=r"^(\[[0-9a-fA-F:]+\]|[^:/]*):[0-9]{1,5}$",
        description="Address of REST: host:port; port 0 picks a free one.",
    )
    grpc_listen: str = Field("127.0.0.1:10001", description="Address of gRPC: host:port or unix:/path.")
    ops_listen: str = ops_listen("127.0.0.1:10020")
    trace_rate: float = trace_rate("requests")
    store: str = Field("127.0.0.1:10012", description="Address of the store.")
    watch_stores: Names = Field(
        (),
        description="Addresses of further store processes on the same MongoDB database, separated by commas: each "
        "tells only of changes that go through it, and events and waits for a job's end need all of them.",
    )
    schedulers: Names = Field(
        ("127.0.0.1:10011",), min_length=1, description="Addresses of all schedulers, separated by commas."
    )
    dispatchers: Names = Field(
        ("127.0.0.1:10013",), description="Addresses of all dispatchers, separated by commas. May be empty."
    )

    allowed_hosts: Names = Field(
        (),
        description="Names (without a port) that a request's Host header may have besides those of loopback and of the "
        "address bound to, separated by commas; * allows any.",
    )
    allowed_origins: Names = Field(
        (),
        description="Origins (as https://front.example) of web pages that may call this, besides its own pages, "
        "separated by commas; * allows any page to start containers.",
    )

    max_body: int = Field(_MIB, ge=1024, description="Most bytes of a request's body; more is 413.")
    max_batch_body: int = Field(32 * _MIB, ge=1024, description="The same for POST /batch.")
    max_bodies: int = Field(1024, ge=1, description="Bodies that are being received at once; more get 429.")
    max_large_bodies: int = Field(8, ge=1, description="Bodies of more than 1 MiB that are held at once; more get 429.")
    request_timeout: float = Field(30.0, gt=0, description="Most seconds for a request that is no stream; then 504.")
    max_requests: int = Field(512, ge=1, description="Requests at once, both protocols together; more get 429.")
    max_streams: int = Field(1000, ge=1, description="Streams and downloads at once; more get 429.")
    stream_in_flight: int = Field(256, ge=1, description="Jobs of one batch or stream under way at once.")
    keepalive: float = Field(75.0, gt=0, description="Seconds for which an idle HTTP connection is kept open.")
    head_timeout: float = Field(
        10.0, gt=0, description="Most seconds from the first byte of an HTTP request's head to its last; then 408."
    )

    store_patience: float = Field(
        3.0, gt=0, description="Seconds for which a call to a store or scheduler that is away is repeated; then 503."
    )
    stream_patience: float = Field(60.0, gt=0, description="The same for a reader of live output.")
    explain_timeout: float = Field(
        0.3, gt=0, description="Seconds that dispatchers get to say why a job waits, beside the job."
    )
    status_timeout: float = Field(
        3.0,
        gt=0,
        description="Seconds that each service gets to answer for /status, and dispatchers for explain; at most half "
        "of request_timeout.",
    )

    redact_names: Names = Field(
        DEFAULT_SEGMENTS,
        description="Parts (between underscores, dashes, dots or humps) of names whose values are never shown: of "
        "environment variables, keys in metadata, parameters of URLs.",
    )
    default_retries: int = Field(0, ge=0, le=1000, description="Retries of a job that doesn't say.")
    default_infra_retries: int = Field(5, ge=0, le=100, description="Its retries after failures of the infrastructure.")
    default_stop_grace: float = Field(10.0, ge=0, le=3600, description="Its seconds from SIGTERM to SIGKILL.")
    default_log_limit: int = Field(
        100 * _MIB, ge=0, le=10 * 1024 * _MIB, description="Bytes of its output that are kept, for each stream."
    )
    default_backoff_min: float = Field(1.0, ge=0, le=86_400, description="Its seconds before the first retry.")
    default_backoff_factor: float = Field(2.0, ge=1, le=100, description="Growth of that from one retry to the next.")
    default_backoff_max: float = Field(300.0, ge=0, le=2_592_000, description="Most seconds before a retry.")
    default_backoff_jitter: float = Field(0.5, ge=0, le=1, description="Share of them that is random.")
    default_timeout: float = Field(0.0, ge=0, le=315_360_000, description="Most seconds that it runs; 0: no bound.")
    rules: str = Field(
        "",
        description="Rules file (TOML), of which this service takes [[default]]: `pattern` (a regex, in RE2's syntax, "
        "that the task's whole name matches; the first that does holds) and any of retries, backoffMin, backoffFactor, "
        "backoffMax, backoffJitter, backoffMaxElapsed, retryOn, infraRetries, timeout, stopGrace, priority, "
        "startDeadline, reportFailure. Read again when it changes, and on SIGHUP; one that is wrong, in whatever "
        "table, is refused, and the old stays.",
    )
    default_on_lost: Literal["RERUN", "FAIL", "WAIT"] = Field("RERUN", description="What follows if its host is lost.")

    @property
    def patience(self) -> float:
        """Seconds of `status_timeout` that leave a request the time to tell who did not answer."""
        return min(self.status_timeout, self.request_timeout / 2)

    @field_validator(
        "watch_stores", "schedulers", "dispatchers", "allowed_hosts", "allowed_origins", "redact_names", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        return tuple(one.strip() for part in parts for one in str(part).split(",") if one.strip())
