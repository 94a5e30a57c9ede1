"""The columns: everything the hot path reads, as NumPy arrays with a row for each entity.

All arrays have their full capacity from the start and begin as zeros, so the system commits
memory only for rows that are used, and nothing ever moves. Zero therefore means "none": row 0 of
every table is nobody, and member 0 ends a list. The annotations are the schema: each array's
type, and its width where a row is a list.
"""

from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from onhand.state.clusters import CAPACITY
from onhand.state.cohorts import COHORTS
from onhand.state.content import DIMENSIONS

__all__ = [
    "ClusterColumns",
    "ContextColumns",
    "ItemColumns",
    "PlaceColumns",
    "SessionColumns",
    "ShopColumns",
    "UserColumns",
    "zeros",
]

U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

FOLLOWERS: Final = 32
POPULAR: Final = 256
ARRIVED: Final = 256
RECENT: Final = 20
HISTORY: Final = 30
BASKET: Final = 20
SESSIONS: Final = 128
BOUGHT: Final = 64
CART: Final = 20
TERMS: Final = 32
SURGE: Final = 128
BEGUN: Final = 64


class ItemColumns(NamedTuple):
    """A row an item. `next_*` and `with_*` are sketches."""

    blocked: U8  # why it must not be shown, 0 when it may: see `barriers`
    listed: U8  # it is in the catalogue
    held: U8  # a policy flag holds it
    stock: I32  # -1: not tracked
    price_cents: I64  # -1: unknown
    slots: I32  # open fulfilment slots; -1: unknown
    congestion: F32  # of fulfilment, 0 to 1; -1: unknown
    created_ms: I64
    category: I32  # rows of the state's names; 0: none
    brand: I32
    popularity: I64  # decayed weight over all visitors
    surge: I64  # the same, decayed within hours
    cohort_weight: Annotated[I64, COHORTS]  # the same within each cohort: see `cohorts`
    next_item: Annotated[I32, FOLLOWERS]  # where visitors go from here
    next_weight: Annotated[I64, FOLLOWERS]
    with_item: Annotated[I32, FOLLOWERS]  # what is bought in the same session
    with_weight: Annotated[I64, FOLLOWERS]
    rush_pieces: I32  # its latest sales, but for the first: see `fold.sell`
    rush_ms: I64  # the time that they took
    sold_ms: I64  # the latest of them; negative: it was sold out since
    sessions: I64  # that have touched it
    recent_session: Annotated[I32, SESSIONS]  # the latest of them: a ring
    content: Annotated[I8, DIMENSIONS]  # its vector: see `content`
    cluster: I32  # 1 + the cluster it is in, 0: none; and its place there
    cluster_at: I32
    terms: Annotated[I32, TERMS]  # its tags and attributes, as far as there is room


class SessionColumns(NamedTuple):
    """A row a session. Lists begin with the latest."""

    touched: I64  # the event that touched it last, as `ShopColumns.events` counts them
    user: I32
    country: I32
    device: I32
    referrer: I32
    interactions: I32
    interest: Annotated[I16, DIMENSIONS]  # the session vector: see `content`
    recent_item: Annotated[I32, RECENT]
    recent_ms: Annotated[I64, RECENT]
    bought_item: Annotated[I32, BASKET]
    bought_ms: Annotated[I64, BASKET]
    cart_item: Annotated[I32, CART]
    cart_ms: Annotated[I64, CART]


class UserColumns(NamedTuple):
    """A row a user. Lists begin with the latest."""

    touched: I64
    country: I32
    interactions: I32
    recent_item: Annotated[I32, HISTORY]
    recent_ms: Annotated[I64, HISTORY]
    bought_item: Annotated[I32, BOUGHT]
    bought_ms: Annotated[I64, BOUGHT]


class PlaceColumns(NamedTuple):
    """A row a country, each a sketch; row 0, the whole world, is exact: a `sketch.top` list."""

    popular_item: Annotated[I32, POPULAR]
    popular_weight: Annotated[I64, POPULAR]


class ContextColumns(NamedTuple):
    """A row an hour of the day, a referrer, a device: what visitors begin with there, sketches."""

    begun_item: Annotated[I32, BEGUN]
    begun_weight: Annotated[I64, BEGUN]


class ClusterColumns(NamedTuple):
    """A row a cluster of items: see `clusters`."""

    centroid: Annotated[I8, DIMENSIONS]
    size: I32
    member: Annotated[I32, CAPACITY]  # rows of items, the first `size`
    vectors: Annotated[I8, CAPACITY, DIMENSIONS]  # theirs


class ShopColumns(NamedTuple):
    """One row: what there is one of."""

    events: I64  # folded so far
    items: I64  # rows of items in use, row 0 included
    sessions: I64  # begun so far
    clusters: I64  # in use
    moves: I64  # how often an item came into a cluster or left one
    landmark_ms: I64  # of `decay`
    arrived_item: Annotated[I32, ARRIVED]  # the newest items, latest first
    arrived_ms: Annotated[I64, ARRIVED]
    surge_landmark_ms: I64
    surge_item: Annotated[I32, SURGE]  # the heaviest by `ItemColumns.surge`: a `sketch.top` list
    surge_weight: Annotated[I64, SURGE]
    cohort_item: Annotated[I32, COHORTS, POPULAR]  # each cohort's popular items: `sketch.top` lists
    cohort_weight: Annotated[I64, COHORTS, POPULAR]


_Columns = TypeVar(
    "_Columns",
    ItemColumns,
    SessionColumns,
    UserColumns,
    PlaceColumns,
    ContextColumns,
    ClusterColumns,
    ShopColumns,
)


def zeros(kind: type[_Columns], rows: int) -> _Columns:
    """Return the columns of `kind` for `rows` rows, all zero."""
    arrays: list[NDArray[Any]] = []
    for hint in get_type_hints(kind, include_extras=True).values():
        array, *width = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        scalar = get_args(get_args(array)[1])[0]
        arrays.append(np.zeros((rows, *width), scalar))
    return kind(*arrays)
