"""The contexts: a row for each hour of the day (UTC), each referrer, each kind of device."""

from typing import Final

from onhand.kernel import kernel

__all__ = ["DEVICES_AT", "REFERRERS", "REFERRERS_AT", "hour_row", "referrer_name"]

HOURS: Final = 24
REFERRERS: Final = 64
"""Referrers that are told apart, at most; row 0 is that of none and of all others."""
REFERRERS_AT: Final = HOURS
DEVICES_AT: Final = REFERRERS_AT + REFERRERS


@kernel
def hour_row(time_ms: int) -> int:
    """Return the row of the hour of `time_ms`."""
    return time_ms // 3_600_000 % HOURS


def referrer_name(referrer: str) -> str:
    """Return what of a referrer is counted: the host of an address, else the word itself."""
    _, _, rest = referrer.rpartition("://")
    return rest.partition("/")[0].lower().removeprefix("www.")
