"""What of a state is not in columns, and how a checkpoint keeps it: piece by piece.

In one call, encoding the ids of a million events would keep the interpreter from page reads for
100 ms; between two pieces they have their turn.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, get_type_hints

import msgspec

from onhand.contracts.records import Body, Event, Item

__all__ = ["Texts", "decode", "encode"]

_PIECE: Final = 4_096
"""Names in a piece: some hundred microseconds."""


class Texts(msgspec.Struct):
    """What of a state is not in columns."""

    offset: int
    items: list[str]
    countries: list[str]
    devices: list[str]
    categories: list[str]
    brands: list[str]
    referrers: list[str]
    terms: list[str]
    users: list[str]
    users_free: list[int]
    sessions: list[str]
    sessions_free: list[int]
    catalogue: dict[int, Item]
    bands: dict[int, int]
    flags: dict[int, list[str]]
    controls: dict[str, Body]
    held: list[Event]
    newest_ms: int
    floor_ms: int
    late: int


def encode(texts: Texts) -> dict[str, bytes]:
    """Return each field in pieces, `field.number`, as MessagePack."""
    return {
        f"{field}.{at}": msgspec.msgpack.encode(piece)
        for field in Texts.__struct_fields__
        for at, piece in enumerate(_pieces(getattr(texts, field)))
    }


def decode(values: Mapping[str, bytes]) -> Texts:
    """Return what `encode` took apart."""
    types = get_type_hints(Texts)
    whole: dict[str, Any] = {}
    for name, body in values.items():
        field = name.partition(".")[0]
        piece = msgspec.msgpack.decode(body, type=types[field])
        if field not in whole:
            whole[field] = piece
        elif isinstance(piece, list):
            whole[field] += piece
        else:
            whole[field] |= piece
    return Texts(**whole)


def _pieces(whole: Any) -> Iterator[Any]:
    """Yield a field in pieces of its type; an empty one is one piece."""
    if isinstance(whole, list):
        for at in range(0, max(len(whole), 1), _PIECE):
            yield whole[at : at + _PIECE]
    elif isinstance(whole, dict):
        entries = iter(whole.items())
        for _ in range(0, max(len(whole), 1), _PIECE):
            yield dict(islice(entries, _PIECE))
    else:
        yield whole
