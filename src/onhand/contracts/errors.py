"""Every error a caller can meet, each with a stable code and a sentence that says what to do."""

from typing import NamedTuple

import msgspec

__all__ = [
    "Fault",
    "Invalid",
    "OnhandError",
    "Overloaded",
    "RecordError",
    "Refused",
    "Unavailable",
    "Unknown",
    "send_again",
]


class OnhandError(Exception):
    """Base of all errors raised on purpose; `code` is stable, `str(error)` is for people."""

    status = 500

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Invalid(OnhandError):
    """The caller sent something that breaks a contract."""

    status = 400


class Unknown(OnhandError):
    """The caller named something that is not there."""

    status = 404


class Refused(OnhandError):
    """What the caller named is understood, and fails its checks."""

    status = 422


class Unavailable(OnhandError):
    """The engine cannot take this now: it is folding its log, or its disk failed. It may in
    `retry_s` seconds."""

    status = 503
    retry_s = 1


class Overloaded(Unavailable):
    """There is more to do than can be done."""

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__("overloaded", f"{message} {send_again(retry_s)}")
        self.retry_s = retry_s


def send_again(seconds: int) -> str:
    """The sentence that says what the header Retry-After does."""
    return f"Send this again in {'a second' if seconds == 1 else f'{seconds} seconds'}."


class Fault(NamedTuple):
    """Why a record is refused, and by which field, where it is one; `contract` is named where it
    is not that of the record's kind."""

    code: str
    message: str
    field: str | None = None
    contract: str | None = None


class RecordError(msgspec.Struct, frozen=True):
    """Why the record at `index` of a batch was refused."""

    index: int
    code: str
    message: str
