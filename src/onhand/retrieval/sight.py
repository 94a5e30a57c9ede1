"""What retrieval reads of a state, and whom it reads it for.

One compiled call makes a decision (see `decision.decide`). Handing an array to compiled code costs
about 0.15 microseconds, so what is handed over is only what is read, and page reads hand it over
once for all (`kernel.Held`).
"""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from onhand.contracts.requests import RecommendRequest
from onhand.kernel import Array, shared_kernel
from onhand.state.cohorts import cohort_of
from onhand.state.contexts import referrer_name
from onhand.state.operations import session_name
from onhand.state.state import State

__all__ = ["Asked", "Sight", "Visitor", "find_visitor", "look_up", "recognise", "sight_of"]

Column = NDArray[Any]
Asked = tuple[int, int, int, int, int, int, bool]
"""What a request names, as rows of the state: session, user, seed item, country, device, referrer;
0 is unknown. And whether it names a user."""


class Sight(NamedTuple):
    """Columns of a state under the names that retrieval gives them."""

    blocked: Column
    popularity: Column
    stock: Column
    rush_pieces: Column
    rush_ms: Column
    sold_ms: Column
    price_cents: Column
    next_item: Column
    next_weight: Column
    with_item: Column
    with_weight: Column
    session_recent: Column
    session_bought: Column
    session_cart: Column
    user_recent: Column
    user_bought: Column
    popular_item: Column
    popular_weight: Column
    arrived_item: Column
    landmark_ms: Column
    arrived_ms: Column
    sessions_of: Column
    content: Column
    interest: Column
    surge_item: Column
    surge_weight: Column
    surge_landmark_ms: Column
    begun_item: Column
    begun_weight: Column
    cohort_item: Column
    cohort_weight: Column
    brand: Column
    category: Column
    terms: Column
    centroid: Column
    cluster_size: Column
    cluster_member: Column
    cluster_vectors: Column
    clusters: Column
    moves: Column
    session_user: Column
    session_country: Column
    session_interactions: Column
    user_country: Column
    user_interactions: Column


class Visitor(NamedTuple):
    """Who asks, as rows of the state: session, user, seed item, country, device, referrer; 0 is
    unknown. And the cohort (see `state.cohorts`)."""

    session: int
    user: int
    seed: int
    country: int
    device: int
    referrer: int
    cohort: int


def sight_of(state: State) -> Sight:
    """Return the sight of a state; it stays valid as long as the state."""
    items, sessions, users = state.item, state.session, state.user
    return Sight(
        blocked=items.blocked,
        popularity=items.popularity,
        stock=items.stock,
        rush_pieces=items.rush_pieces,
        rush_ms=items.rush_ms,
        sold_ms=items.sold_ms,
        price_cents=items.price_cents,
        next_item=items.next_item,
        next_weight=items.next_weight,
        with_item=items.with_item,
        with_weight=items.with_weight,
        session_recent=sessions.recent_item,
        session_bought=sessions.bought_item,
        session_cart=sessions.cart_item,
        user_recent=users.recent_item,
        user_bought=users.bought_item,
        popular_item=state.place.popular_item,
        popular_weight=state.place.popular_weight,
        arrived_item=state.shop.arrived_item,
        landmark_ms=state.shop.landmark_ms,
        arrived_ms=state.shop.arrived_ms,
        sessions_of=items.sessions,
        content=items.content,
        interest=sessions.interest,
        surge_item=state.shop.surge_item,
        surge_weight=state.shop.surge_weight,
        surge_landmark_ms=state.shop.surge_landmark_ms,
        begun_item=state.context.begun_item,
        begun_weight=state.context.begun_weight,
        cohort_item=state.shop.cohort_item,
        cohort_weight=state.shop.cohort_weight,
        brand=items.brand,
        category=items.category,
        terms=items.terms,
        centroid=state.cluster.centroid,
        cluster_size=state.cluster.size,
        cluster_member=state.cluster.member,
        cluster_vectors=state.cluster.vectors,
        clusters=state.shop.clusters,
        moves=state.shop.moves,
        session_user=sessions.user,
        session_country=sessions.country,
        session_interactions=sessions.interactions,
        user_country=users.country,
        user_interactions=users.interactions,
    )


def look_up(state: State, request: RecommendRequest) -> Asked:
    """Return the rows that `request` names; nothing is created."""
    name, item, context = request.user, request.item, request.context
    user = state.users.rows.get(name, 0) if name is not None else 0
    session = state.sessions.rows.get(session_name(request.session, name), 0)
    seed = state.items.rows.get(item, 0) if item is not None else 0
    country = device = referrer = 0
    if context.country is not None:
        country = state.countries.rows.get(context.country, 0)
    if context.device is not None:
        device = state.devices.rows.get(context.device, 0)
    if context.referrer is not None:
        referrer = state.referrers.rows.get(referrer_name(context.referrer), 0)
    return session, user, seed, country, device, referrer, name is not None


@shared_kernel
def recognise(
    asked: Asked, session_user: Array, session_country: Array, user_country: Array,
    user_interactions: Array,
) -> tuple[int, int, int]:  # fmt: skip
    """Return user, country and cohort: what a request does not name is known of its session, or
    of its user."""
    session, user, _, country, _, _, has_user = asked
    if user == 0:
        user = session_user[session]
    if country == 0:
        country = session_country[session]
    if country == 0:
        country = user_country[user]
    return user, country, cohort_of(has_user or user != 0, user_interactions[user])


def find_visitor(state: State, request: RecommendRequest) -> Visitor:
    """Return who asks; nothing is created."""
    asked = look_up(state, request)
    sessions, users = state.session, state.user
    known = recognise(asked, sessions.user, sessions.country, users.country, users.interactions)
    user, country, cohort = map(int, known)
    session, _, seed, _, device, referrer, _ = asked
    return Visitor(session, user, seed, country, device, referrer, cohort)
