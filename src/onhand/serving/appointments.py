"""When what was refused may come again: each request has an appointment of its own.

If all that were refused came again a second later, they would come together, be refused together,
and do so every second for as long as there is more to do than can be done; and when that is over,
all that waits would come at once. So each is asked to come behind those that were refused before
it, at the rate at which requests are taken: a virtual queue, as in the generic cell rate algorithm
(ITU-T I.371). Who comes and is refused again, gets a new appointment.
"""

from math import ceil, exp
from typing import Final

__all__ = ["LONGEST_S", "Appointments", "appoint"]

LONGEST_S: Final = 30.0
"""Nobody is asked to wait for longer: what was measured under overload says little of what can be
taken after it. Within 10 s, half as many records again came during it only to be refused again."""
_SOONEST_S: Final = 1.0
_WINDOW_S: Final = 5.0
"""What was taken counts for less by a factor e after so long."""
_LEAST_RATE: Final = 1.0
"""Whoever was asked for little has taken little, and can take more."""


def appoint(last_s: float, rate: float) -> float:
    """Return the appointment behind the last one, both in seconds from now, when `rate` requests
    are taken a second. It is 1 to `LONGEST_S` away; when all that time is given out, its later half
    is given out again, so that not all come in the last second."""
    next_s = max(last_s + 1 / rate, _SOONEST_S)
    return next_s if next_s <= LONGEST_S else LONGEST_S / 2


class Appointments:
    """Those of one server. `now_s` is the time of any clock that only goes forward."""

    def __init__(self) -> None:
        self._taken = 0.0
        self._counted_s = 0.0
        self._last_s = 0.0

    def note_taken(self, now_s: float) -> None:
        """Count a request that was taken."""
        self._fade(now_s)
        self._taken += 1

    def make(self, now_s: float) -> int:
        """Return in how many seconds a request that is refused now may come again."""
        self._fade(now_s)
        seconds = appoint(self._last_s - now_s, max(self._taken / _WINDOW_S, _LEAST_RATE))
        self._last_s = now_s + seconds
        return ceil(seconds)

    def _fade(self, now_s: float) -> None:
        self._taken *= exp((self._counted_s - now_s) / _WINDOW_S)
        self._counted_s = now_s
