"""Settings of the store."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from easyq_chassis.settings import ServiceSettings


class StoreSettings(ServiceSettings):
    """The store: the durable truth of the farm. Each flag is also EASYQ_STORE_<FLAG>."""

    model_config = SettingsConfigDict(env_prefix="EASYQ_STORE_")

    listen: str = Field("127.0.0.1:10012", description="Address to serve on: host:port or unix:/path.")
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
    log_poll: float = Field(1.0, gt=0, le=60, description="Seconds after which a reader of live logs looks for itself.")
    log_patience: float = Field(
        30.0, ge=0, description="Seconds that a reader waits for the rest of an ended execution's logs."
    )
