"""What may go wrong with a Docker Engine. The adapter translates, the use cases decide."""

from __future__ import annotations


class EngineError(Exception):
    """Base of them; the message is Docker's own sentence, or says how the engine could not be reached."""


class EngineUnreachable(EngineError):
    """No answer: whether the call took effect is unknown."""


class EngineSilent(EngineUnreachable):
    """It took the call and gave no answer in time, as where the engine is stuck with one container."""


class EngineFailed(EngineError):
    """The engine answered that it failed (5xx): a fault of the host."""


class HostExhausted(EngineFailed):
    """The engine failed for want of what the whole host lacks: disk, memory, processes, files."""


class InvalidRequest(EngineError):
    """The engine refuses what was asked for (400 and the like): it would do so again."""


class NoSuchContainer(EngineError):
    """There is no such container."""


class NoSuchImage(EngineError):
    """The host has no such image (or not for the platform)."""


class NameTaken(EngineError):
    """Another container has that name."""


class NotNow(EngineError):
    """The container's state does not allow it (409): not running, running, or being removed."""


class ImageRefused(EngineError):
    """The registry has no such image, or denies it."""


class PullFailed(EngineError):
    """The registry could not be reached, or failed."""


class RegistryBusy(PullFailed):
    """The registry asks to come back later (429)."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        # Seconds that it asks for; None: it did not say.
        self.retry_after = retry_after
