"""Who asks, as rows of the state. Whoever is unknown is row 0."""

from typing import NamedTuple

from onhand.contracts.requests import RecommendRequest
from onhand.state.operations import session_name
from onhand.state.state import State

__all__ = ["Visitor", "find"]


class Visitor(NamedTuple):
    """Rows of the session, the user, the seed item and the country, and the moment."""

    session: int
    user: int
    seed: int
    country: int
    now_ms: int


def find(state: State, request: RecommendRequest, now_ms: int) -> Visitor:
    """Return the rows that `request` names; nothing is created."""
    user = state.users.rows.get(request.user, 0) if request.user is not None else 0
    session = state.sessions.rows.get(session_name(request.session, request.user), 0)
    if session and not user:
        user = int(state.session.user[session])
    seed = state.items.rows.get(request.item, 0) if request.item is not None else 0
    country = 0
    if request.context.country is not None:
        country = state.countries.rows.get(request.context.country, 0)
    if not country:
        country = int(state.session.country[session] or state.user.country[user])
    return Visitor(session, user, seed, country, now_ms)
