"""Settings of the store."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq_chassis.settings import ServiceSettings, ops_listen, trace_rate
from easyq_store.domain.retention import OUTCOMES, Keep
from easyq_store.retention_rules import AGES, age, keep_from


class StoreSettings(ServiceSettings):
    """The store: the durable truth of the farm. Each flag is also EASYQ_STORE_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_STORE_")

    listen: str = Field("127.0.0.1:10012", description="Address to serve on: host:port or unix:/path.")
    ops_listen: str = ops_listen("127.0.0.1:10022")
    trace_rate: float = trace_rate("fires of recurring jobs")
    database: str = Field(
        "sqlite:///easyq.db",
        pattern=r"^(sqlite:///.+|mongodb(\+srv)?://.+)$",
        description="Where everything is kept: sqlite:///relative/path, sqlite:////absolute/path, or mongodb://…",
    )
    lost_margin: float = Field(
        5.0, ge=0, le=600, description="Seconds beyond an agent's lostAfter until its session is declared dead."
    )
    lost_interval: float = Field(1.0, gt=0, le=60, description="Seconds between two looks for silent agents.")
    sweep_interval: float = Field(
        2.0, gt=0, le=600, description="Seconds between two looks for what a crash left unfinished."
    )
    clock_interval: float = Field(
        5.0, gt=0, le=600, description="Seconds between two writes of the clock's high-water mark."
    )
    retry_interval: float = Field(
        1.0, gt=0, le=60, description="Seconds between two tries to open a database that can't be reached."
    )
    report_failures: Literal["none", "final", "all"] = Field(
        "none",
        description="Which failed executions are told to the error handlers, of jobs that don't say (reportFailure): "
        "final: those with which their job fails; all: each, those that are retried as well.",
    )
    rules: str = Field(
        "",
        description="Rules file (TOML), of which this service takes [[retention]]: `pattern` (a regex, in RE2's "
        "syntax, that the task's whole name matches; the first that does holds) and any of succeeded, failed, stopped, "
        "expired, logs (as the flags --retain-…), succeeded_count, failed_count, stopped_count, expired_count, "
        "executions. Read again when it changes, and on SIGHUP; one that is wrong, in whatever table, is refused, and "
        "the old stays.",
    )
    retain_succeeded: str = Field(
        "", description="How long a job is kept after it succeeded (30d); empty or 0: for ever."
    )
    retain_failed: str = Field(
        "", description="The same of one that failed or timed out: how long the error queue remembers it."
    )
    retain_stopped: str = Field("", description="The same of one that was stopped.")
    retain_expired: str = Field("", description="The same of one that expired, or whose schedule came to its end.")
    retain_succeeded_count: int = Field(0, ge=0, description="Most of a task that succeeded and are kept; 0: all.")
    retain_failed_count: int = Field(0, ge=0, description="The same of those that failed or timed out.")
    retain_stopped_count: int = Field(0, ge=0, description="The same of those that were stopped.")
    retain_expired_count: int = Field(0, ge=0, description="The same of those that expired.")
    retain_logs: str = Field(
        "", description="How long logs are kept after their execution ended (7d), apart from its record; empty: as it."
    )
    retain_executions: int = Field(
        1_000, ge=0, description="Newest executions of each recurring job that are kept; 0: all."
    )
    retain_interval: float = Field(
        60.0, gt=0, le=86_400, description="Seconds between two looks for what is kept no longer."
    )
    retain_batch: int = Field(50, ge=1, le=1_000, description="Jobs deleted in one go.")
    retain_pause: float = Field(
        0.05,
        ge=0,
        le=60,
        description="Least seconds of rest after each; four times as long as it took, if that is more.",
    )
    log_poll: float = Field(1.0, gt=0, le=60, description="Seconds after which a reader of live logs looks for itself.")
    log_patience: float = Field(
        30.0, ge=0, description="Seconds that a reader waits for the rest of an ended execution's logs."
    )

    metric_plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="Names of the plugins (entry points of the group easyq.metrics) that get usage records or add "
        "labels, separated by commas; * stands for all that are installed. Empty: none.",
    )

    @field_validator("metric_plugins", mode="before")
    @classmethod
    def _split_plugins(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator(*(f"retain_{name}" for name in AGES))
    @classmethod
    def _check_age(cls, value: str) -> str:
        age(value)
        return value

    @property
    def keep(self) -> Keep:
        """What tasks keep that no rule names."""
        ages = {name: getattr(self, f"retain_{name}") for name in AGES}
        counts = {f"{name}_count": getattr(self, f"retain_{name}_count") for name in OUTCOMES}
        return keep_from({**ages, **counts, "executions": self.retain_executions}, Keep())
