"""Settings of the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq_chassis.redaction import DEFAULT_SEGMENTS
from easyq_chassis.settings import ServiceSettings, ops_listen
from easyq_scheduler.domain.networks import Guard

Names = Annotated[tuple[str, ...], NoDecode]


class SchedulerSettings(ServiceSettings):
    """The scheduler: admits jobs that have a time, fires what is due. Each flag is also EASYQ_SCHEDULER_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_SCHEDULER_")

    listen: str = Field("127.0.0.1:10011", description="Address to serve on: host:port or unix:/path.")
    ops_listen: str = ops_listen("127.0.0.1:10021")
    store: str = Field("127.0.0.1:10012", description="Address of the store.")
    dispatchers: Names = Field(
        ("127.0.0.1:10013",), description="Addresses of all dispatchers, separated by commas. May be empty."
    )
    poll_interval: float = Field(
        0.5, gt=0, le=60, description="Most seconds between two looks at what is due; less where something is planned."
    )
    expiry_interval: float = Field(
        1.0, gt=0, le=60, description="Most seconds between two looks at what has waited too long."
    )
    page: int = Field(1000, ge=1, le=5000, description="Most executions that are fired in one call.")
    call_timeout: float = Field(10.0, gt=0, le=300, description="Most seconds for a call to the store.")

    public_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Where people reach this farm (https://jobs.example.org): links in notifications begin with it. "
        "Empty: no links.",
    )
    notify_interval: float = Field(
        0.5, gt=0, le=60, description="Most seconds between two looks at which notifications are to be sent."
    )
    notify_workers: int = Field(32, ge=1, le=1000, description="Notifications that are sent at once.")
    notify_per_host: int = Field(4, ge=1, le=1000, description="Of these, most to one host (and port), and by e-mail.")
    notify_timeout: float = Field(10.0, gt=0, le=300, description="Most seconds for one attempt, from name to answer.")
    notify_first_retry: float = Field(
        5.0, gt=0, le=86_400, description="Seconds until one that was not taken is tried again; they double each time."
    )
    notify_longest_retry: float = Field(3600.0, gt=0, le=86_400, description="Most seconds between two tries.")
    notify_max_age: float = Field(
        86_400.0, gt=0, le=2_592_000, description="Seconds after which one that was not taken is given up."
    )
    webhook_guard: bool = Field(
        False,
        description="Call only webhooks at public addresses, whatever their names say; those in webhook_networks too. "
        "Whoever may enqueue could else have this machine call what only it can reach.",
    )
    webhook_networks: Names = Field(
        (), description="Networks (10.1.0.0/16, fd00::/8) that are called with webhook_guard on, separated by commas."
    )
    webhook_redirects: int = Field(
        0, ge=0, le=10, description="Redirects that are followed; 0: none, they are failures."
    )
    webhook_ca: str = Field(
        "", description="File of certificates (PEM) that webhooks over https are trusted by, instead of the system's."
    )
    webhook_secrets: str = Field(
        "",
        description='File (TOML) of keys for signatures, each `name = "key"`, which jobs name as `secretName`; '
        "`default` is for webhooks that name none. Read again when it changes.",
    )
    smtp_host: str = Field("", description="Mail server. Empty: no e-mails are sent.")
    smtp_port: int = Field(0, ge=0, le=65535, description="Its port; 0: 587 for starttls, 465 for tls, 25 for none.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="tls: from the first byte; starttls: or nothing is sent; none: in clear."
    )
    smtp_ca: str = Field("", description="File of certificates (PEM) that it is trusted by, instead of the system's.")
    smtp_user: str = Field("", description="Name to sign in with. Empty: without.")
    smtp_password: SecretStr | None = Field(
        None,
        description="Its password; by the environment or smtp_password_file rather than by the flag, which `ps` shows.",
    )
    smtp_password_file: str = Field("", description="File whose first line is the password.")
    smtp_from: str = Field("", description="Sender of e-mails: ops@example.org, or EasyQ <ops@example.org>.")
    redact_names: Names = Field(
        DEFAULT_SEGMENTS,
        description="Parts of names of environment variables whose values never stand in a notification; as the "
        "gateway's.",
    )

    @property
    def guard(self) -> Guard:
        """Which addresses webhooks may go to."""
        return Guard.of(on=self.webhook_guard, networks=self.webhook_networks)

    @property
    def mail_password(self) -> str:
        """The mail server's password, wherever it stands. Raises OSError where its file can't be read."""
        if self.smtp_password_file:
            lines = Path(self.smtp_password_file).read_text(encoding="utf-8").splitlines()
            return lines[0] if lines else ""
        return self.smtp_password.get_secret_value() if self.smtp_password is not None else ""

    @model_validator(mode="after")
    def _check(self) -> SchedulerSettings:
        if self.smtp_host and "@" not in self.smtp_from:
            raise ValueError("smtp_host needs smtp_from, an e-mail address")
        if self.smtp_password is not None and self.smtp_password_file:
            raise ValueError("only one of smtp_password and smtp_password_file may be set")
        return self

    @field_validator("webhook_networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Guard.of(on=True, networks=value)
        return value

    @field_validator("webhook_ca", "webhook_secrets", "smtp_ca", "smtp_password_file")
    @classmethod
    def _check_file(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("dispatchers", "webhook_networks", "redact_names", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        return tuple(one.strip() for part in parts for one in str(part).split(",") if one.strip())
