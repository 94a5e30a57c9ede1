"""Session-based retrieval: what fits a session, learned from other sessions.

`SessionSources.find` answers with candidates and their features; the ranker's
`TreeEnsemble.score` orders them. One noun a file: the index and its growing rows, neighbours,
transitions, item vectors, and the candidates that all of them together propose.
"""

from onhand.retrieval.sessions.candidates import Candidates, Scratch, SessionSources
from onhand.retrieval.sessions.index import SessionIndex
from onhand.retrieval.sessions.neighbours import NeighbourSettings
from onhand.retrieval.sessions.transitions import Transitions, count_transitions
from onhand.retrieval.sessions.vectors import item_vectors

__all__ = [
    "SessionSources",
    "Candidates",
    "Scratch",
    "SessionIndex",
    "NeighbourSettings",
    "Transitions",
    "count_transitions",
    "item_vectors",
]
