"""Settings of the scheduler."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from easyq_chassis.settings import ServiceSettings


class SchedulerSettings(ServiceSettings):
    """The scheduler: admits jobs that have a time, fires what is due. Each flag is also EASYQ_SCHEDULER_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_SCHEDULER_")

    listen: str = Field("127.0.0.1:10011", description="Address to serve on: host:port or unix:/path.")
    store: str = Field("127.0.0.1:10012", description="Address of the store.")
    dispatchers: Annotated[tuple[str, ...], NoDecode] = Field(
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

    @field_validator("dispatchers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            return value
        return tuple(one.strip() for part in parts for one in str(part).split(",") if one.strip())
