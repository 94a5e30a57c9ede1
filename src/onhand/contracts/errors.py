"""Every error a caller can meet, each with a stable code and a sentence that says what to do."""

from typing import NamedTuple

import msgspec

__all__ = ["Fault", "Invalid", "OnhandError", "RecordError", "Refused", "Unavailable", "Unknown"]


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
    """The engine cannot take this now: it is folding its log, or its disk failed."""

    status = 503


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
