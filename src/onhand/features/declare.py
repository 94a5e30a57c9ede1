"""Declaring features: a definition says what is counted, for whom, and how it is read.

    shop.feature(count("click", by="item", window="30s"))
    shop.feature(ratio("purchase", "click", by="item", window="7d", prior=0.02, strength=50))

A feature is a frozen value. It is named after what it is unless `name` says otherwise; `default`
stands where nothing is known, and where the latest event that it counts is older than `ttl`.
Windows are exact for their bucketing (`windows`); without `window` a count is of all time.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypedDict, Unpack

import msgspec

from onhand.features import accumulators as kept
from onhand.features import read
from onhand.features.accumulators import FIELDS, SCOPES, Accumulator, Need
from onhand.features.windows import bucket_ms_of, parse_duration_ms
from onhand.features.zones import transitions

__all__ = [
    "Feature", "By", "count", "sum", "mean", "rate", "ratio", "trend", "decayed", "distinct",
    "last", "since", "top", "match",
]  # fmt: skip

By = Literal["item", "user", "session", "user x category", "item x country", "global"]
Events = str | tuple[str, ...]

_DAY_MS: Final = 86_400_000
_ENTITIES: Final = (
    ("item",), ("user",), ("session",), ("user", "item"), ("item", "country"), (),
)  # fmt: skip


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One definition. `type` is `int`, `float`, `bool`, or what its number stands for: `category`,
    `brand`, `country`, `device`, `intent`; `entities` are the ids that it is of."""

    name: str
    doc: str
    type: str = "float"
    unit: str = ""
    default: float = 0.0
    ttl_ms: int = 0
    entities: tuple[str, ...] = ()
    code: int
    needs: tuple[Need, ...] = ()
    buckets: tuple[int, ...] = ()
    parameter: int = 0
    floats: tuple[float, ...] = ()


class Options(TypedDict, total=False):
    """What every declaration takes."""

    name: str
    doc: str
    default: float
    ttl: str


def build(options: Options, **fields: Any) -> Feature:
    """Return a feature of `fields` with the declaration's own options over them."""
    given: dict[str, Any] = {**options}
    if "ttl" in given:
        given["ttl_ms"] = parse_duration_ms(given.pop("ttl"))
    return Feature(**fields | given)


def count(
    event: Events, *, by: By, window: str | None = None, zone: str = "", bucket: str = "",
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """How many events. With `zone`, of calendar days there, today included."""
    need, buckets = _window(kept.COUNT, event, by, kept.ONE, window, bucket, zone)
    return build(
        options,
        name=_name(by, event, window, "calendar" if zone else ""),
        doc=f"{_said(event)} {_span(window, zone)}.",
        type="int",
        unit="events",
        entities=_ENTITIES[need.accumulator.scope],
        code=read.WINDOW,
        needs=(need,),
        buckets=(buckets,),
        floats=(1.0,),
    )


def sum(
    field: str, *, of: Events, by: By, window: str | None = None, zone: str = "", bucket: str = "",
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """The sum of `quantity`, `value` (money), `dwell_ms` (in seconds) or `position`."""
    need, buckets, scale = _summed(field, of, by, window, bucket, zone)
    return build(
        options,
        name=_name(by, of, field, window),
        doc=f"Sum of {field} over {_said(of)} {_span(window, zone)}.",
        unit=_UNITS[field],
        entities=_ENTITIES[need.accumulator.scope],
        code=read.WINDOW,
        needs=(need,),
        buckets=(buckets,),
        floats=(scale,),
    )


def mean(
    field: str, *, of: Events, by: By, window: str, bucket: str = "", **options: Unpack[Options]
) -> Feature:
    """The mean of a field over the events that have it."""
    top_need, buckets, scale = _summed(field, of, by, window, bucket, "")
    below = _counted(top_need)
    return build(
        options,
        name=_name(by, of, "mean", field, window),
        doc=f"Mean {field} of {_said(of)} {_span(window, '')}.",
        unit=_UNITS[field],
        entities=_ENTITIES[below.accumulator.scope],
        code=read.MEAN,
        needs=(top_need, below),
        buckets=(buckets, buckets),
        floats=(scale,),
    )


def rate(event: Events, *, by: By, window: str, **options: Unpack[Options]) -> Feature:
    """Events an hour, over a window."""
    need, buckets = _window(kept.COUNT, event, by, kept.ONE, window, "", "")
    return build(
        options,
        name=_name(by, event, "rate", window),
        doc=f"{_said(event)} an hour {_span(window, '')}.",
        unit="events/h",
        entities=_ENTITIES[need.accumulator.scope],
        code=read.WINDOW,
        needs=(need,),
        buckets=(buckets,),
        floats=(3_600_000 / parse_duration_ms(window),),
    )


def ratio(
    event: Events, to: Events, *, by: By, window: str, prior: float, strength: float,
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """Events `event` for each `to`, as if `strength` more of `to` had come at the rate `prior`."""
    above, buckets = _window(kept.COUNT, event, by, kept.ONE, window, "", "")
    below, _ = _window(kept.COUNT, to, by, kept.ONE, window, "", "")
    return build(
        options,
        name=_name(by, event, "per", _joined(to), window),
        doc=f"{_said(event)} for each of {_said(to)} {_span(window, '')}, smoothed to {prior} "
        f"with the weight of {strength:g}.",
        unit="ratio",
        default=prior,
        entities=_ENTITIES[above.accumulator.scope],
        code=read.RATIO,
        needs=(above, below),
        buckets=(buckets, buckets),
        floats=(prior, strength),
    )


def trend(
    event: Events, *, by: By, short: str, long: str, strength: float = 5.0,
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """The rate in a short window over that in a long one, drawn to 1 by `strength` events."""
    near, near_buckets = _window(kept.COUNT, event, by, kept.ONE, short, "", "")
    far, far_buckets = _window(kept.COUNT, event, by, kept.ONE, long, "", "")
    return build(
        options,
        name=_name(by, event, "trend", short, long),
        doc=f"Rate of {_said(event)} in {short} over that in {long}, 1 where little is known.",
        unit="ratio",
        default=1.0,
        entities=_ENTITIES[near.accumulator.scope],
        code=read.TREND,
        needs=(near, far),
        buckets=(near_buckets, far_buckets),
        floats=(parse_duration_ms(long) / parse_duration_ms(short), strength),
    )


def decayed(
    event: Events, *, by: By, half_life: str, field: str = "", **options: Unpack[Options]
) -> Feature:
    """How many events (or how much quantity), each counting half after every half-life."""
    if field not in ("", "quantity"):
        raise ValueError(f"decayed counts events or their quantity, not {field!r}")
    key = _key(kept.DECAYED, event, by, FIELDS.index(field), parse_duration_ms(half_life))
    return build(
        options,
        name=_name(by, event, field, "decayed", half_life),
        doc=f"{_said(event)}, each counting half after every {half_life}.",
        unit="events" if not field else "pieces",
        entities=_ENTITIES[key.scope],
        code=read.DECAYED,
        needs=(Need(key),),
        floats=(1.0,),
    )


def distinct(
    field: str, *, of: Events, by: By, window: str, bucket: str = "", most: int = 16,
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """How many different items, categories or brands, `most` at most: the latest are told apart."""
    window_ms, bucket_ms = _buckets(window, bucket)
    key = _key(kept.DISTINCT, of, by, _member(field), bucket_ms)
    return build(
        options,
        name=_name(by, of, "distinct", field, window),
        doc=f"Different {field} values of {_said(of)} {_span(window, '')}, {most} at most.",
        type="int",
        unit=field,
        entities=_ENTITIES[key.scope],
        code=read.DISTINCT,
        needs=(Need(key, most),),
        parameter=window_ms // bucket_ms,
        floats=(float(most),),
    )


def last(field: str, *, of: Events, by: By, **options: Unpack[Options]) -> Feature:
    """A field of the latest event that has it."""
    key = _key(kept.LAST, of, by, FIELDS.index(_known(field)))
    kind = field if field in ("category", "brand") else "float"
    return build(
        options,
        name=_name(by, of, "last", field),
        doc=f"The {field} of the latest of {_said(of)}.",
        type=kind,
        unit=_UNITS[field],
        entities=_ENTITIES[key.scope],
        code=read.LAST,
        needs=(Need(key),),
        floats=(_SCALES.get(field, 1.0),),
    )


def since(event: Events, *, by: By, **options: Unpack[Options]) -> Feature:
    """Seconds since the latest event; the default, a year, where there was none."""
    key = _key(kept.LAST, event, by, kept.ONE)
    return build(
        options,
        name=_name(by, event, "since"),
        doc=f"Time since the latest of {_said(event)}.",
        unit="s",
        default=365 * 86_400.0,
        entities=_ENTITIES[key.scope],
        code=read.SINCE,
        needs=(Need(key),),
    )


def top(
    field: str, *, of: Events, by: By, rank: int = 1, half_life: str = "7d",
    **options: Unpack[Options],
) -> Feature:  # fmt: skip
    """The category or brand that a user or a session leans to most, or `rank`-most, up to 4."""
    if not 1 <= rank <= 4:
        raise ValueError(f"rank {rank} of a leaning is not kept; 1 to 4 are")
    key = _key(kept.LEANING, of, by, _member(field), parse_duration_ms(half_life))
    return build(
        options,
        name=_name(by, of, "top", field, str(rank) if rank > 1 else ""),
        doc=f"The {field} number {rank} among {_said(of)}, each counting half after {half_life}.",
        type=field,
        entities=_ENTITIES[key.scope],
        code=read.TOP,
        needs=(Need(key),),
        parameter=rank - 1,
    )


def match(
    field: str, *, of: Events, by: By, half_life: str = "7d", **options: Unpack[Options]
) -> Feature:
    """The share that the candidate's category or brand has in what a visitor leans to, 0 to 1."""
    key = _key(kept.LEANING, of, by, _member(field), parse_duration_ms(half_life))
    return build(
        options,
        name=_name(by, of, "match", field),
        doc=f"Share of the candidate's {field} in {_said(of)}, each counting half after "
        f"{half_life}.",
        unit="share",
        entities=(*_ENTITIES[key.scope], "item"),
        code=read.MATCH,
        needs=(Need(key),),
        parameter=read.CATEGORY if field == "category" else read.BRAND,
    )


_SHAPES: Final = {
    "quantity": kept.SUM, "position": kept.SUM,
    "value": kept.WIDE, "dwell_ms": kept.WIDE, "price": kept.WIDE,
}  # fmt: skip
_SCALES: Final = {"value": 0.01, "price": 0.01, "dwell_ms": 0.001}
_UNITS: Final = {
    "quantity": "pieces", "value": "currency", "price": "currency", "dwell_ms": "s",
    "position": "place", "item": "", "category": "", "brand": "",
}  # fmt: skip


def _window(
    shape: int, event: Events, by: By, field: int, window: str | None, bucket: str, zone: str
) -> tuple[Need, int]:
    """Return a ring and how many of its buckets the window is; without a window, a total."""
    if window is None:
        return Need(_key(kept.TOTAL, event, by, field)), 0
    window_ms, bucket_ms = _buckets(window, bucket)
    if zone:
        transitions(zone)
        bucket_ms = _DAY_MS
        if window_ms % _DAY_MS:
            raise ValueError(f"window {window!r} is not of whole calendar days")
    buckets = window_ms // bucket_ms
    return Need(_key(shape, event, by, field, bucket_ms, zone), buckets), buckets


def _summed(
    field: str, event: Events, by: By, window: str | None, bucket: str, zone: str
) -> tuple[Need, int, float]:
    if field not in _SHAPES:
        raise ValueError(f"{field!r} cannot be summed; known are {', '.join(_SHAPES)}")
    need, buckets = _window(_SHAPES[field], event, by, FIELDS.index(field), window, bucket, zone)
    return need, buckets, _SCALES.get(field, 1.0)


def _counted(summed: Need) -> Need:
    """Return the count of the events that have the field of a sum."""
    return Need(summed.accumulator._replace(shape=kept.COUNT), summed.length)


def _key(
    shape: int, event: Events, by: By, field: int, span_ms: int = 0, zone: str = ""
) -> Accumulator:
    if by not in SCOPES:
        raise ValueError(f"nothing is counted by {by!r}; known are {', '.join(SCOPES)}")
    events = (event,) if isinstance(event, str) else tuple(sorted(set(event)))
    return Accumulator(SCOPES.index(by), shape, events, field, span_ms, zone)


def _buckets(window: str, bucket: str) -> tuple[int, int]:
    window_ms = parse_duration_ms(window)
    bucket_ms = parse_duration_ms(bucket) if bucket else bucket_ms_of(window_ms)
    if window_ms % bucket_ms:
        raise ValueError(f"window {window!r} is not a whole number of buckets of {bucket_ms} ms")
    if window_ms // bucket_ms > 1000:
        raise ValueError(f"window {window!r} has over 1000 buckets of {bucket_ms} ms")
    return window_ms, bucket_ms


def _member(field: str) -> int:
    if field not in ("item", "category", "brand"):
        raise ValueError(f"{field!r} is not told apart; known are item, category, brand")
    return FIELDS.index(field)


def _known(field: str) -> str:
    if field not in _UNITS or field == "item":
        raise ValueError(f"{field!r} is no field of an event; known are {', '.join(_UNITS)}")
    return field


def _name(by: By, event: Events, *parts: str | None) -> str:
    scope = by.replace(" x ", "_")
    return "_".join([scope, _joined(event), *(part for part in parts if part)])


def _joined(event: Events) -> str:
    return event if isinstance(event, str) else "_or_".join(event)


def _said(event: Events) -> str:
    names: Sequence[str] = (event,) if isinstance(event, str) else event
    return " and ".join(name.replace("_", " ") + " events" for name in names)


def _span(window: str | None, zone: str) -> str:
    if window is None:
        return "ever"
    return f"in the calendar days of {zone} that {window} reach back to" if zone else f"in {window}"
