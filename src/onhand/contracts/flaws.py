"""What is plainly wrong with an object that should be a record, found without an exception.

msgspec raises for each wrong object, which takes longer than all else: a body may hold thousands.
So what it says of each field with a value of each type is asked once, and looked up after that.
Only what is rarer, values out of range or wrong in their depth, is left for it to find.
"""

from functools import cache
from typing import Any, Final

import msgspec

from onhand.contracts.records import Event, Item, Signal

__all__ = ["Flaws", "flaws_of"]

_VALUES: Final = (None, True, 1, 0.5, "", [], {})
"""A value of each type of JSON."""


class Flaws:
    """The plain flaws of objects of one record type, in the words of msgspec."""

    def __init__(self, record: type[Event] | type[Item] | type[Signal]) -> None:
        fields = msgspec.structs.fields(record)
        (self._required,) = (field.name for field in fields if field.required)
        self._missing = _complaint(record, {})
        self._empty = _complaint(record, {self._required: ""})
        self._other = {type(value): _complaint(record, value) for value in _VALUES}
        self._wrong = {
            field.name: {
                type(value): text
                for value in _VALUES
                if "got `" in (text := _complaint(record, {field.name: value}))
            }
            for field in fields
        }

    def find(self, value: Any) -> str | None:
        """Return what is wrong, or None where only a conversion can tell."""
        if type(value) is not dict:
            return self._other.get(type(value))
        wrong = self._wrong
        for name, each in value.items():
            if name in wrong and type(each) in wrong[name]:
                return wrong[name][type(each)]
        if value.get(self._required):
            return None
        return self._empty if self._required in value else self._missing


def _complaint(record: type, value: Any) -> str:
    try:
        msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


@cache
def flaws_of(record: type[Event] | type[Item] | type[Signal]) -> Flaws:
    """Return the flaws of a record type."""
    return Flaws(record)
