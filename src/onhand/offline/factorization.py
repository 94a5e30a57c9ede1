"""Matrix factorization of the `implicit` library, as something outside to compare with.

It knows of each user what they touched up to the moment, the session included, and is trained
again every week; whoever has touched nothing gets what is popular.
"""

from collections import Counter
from typing import Any, Final

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares  # pyright: ignore[reportMissingImports]
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from onhand.offline.moments import Interactions, Moment

__all__ = ["Factorization"]

WEEK_MS: Final = 7 * 86_400_000


class Factorization:
    """Alternating least squares over who touched what (Hu, Koren and Volinsky, ICDM 2008)."""

    def __init__(
        self,
        of: Interactions,
        *,
        factors: int = 64,
        regularization: float = 0.05,
        alpha: float = 10.0,
        seed: int = 0,
    ) -> None:
        self._of = of
        self._model: Any = None
        self._trained_ms = -WEEK_MS
        self._settings: dict[str, Any] = {
            "factors": factors,
            "regularization": regularization,
            "alpha": alpha,
        }
        self._seed = seed
        # Guests are the users of their session.
        self._owner = np.where(of.user >= 0, of.user, len(of.users) + of.session)
        self._rows = {name: row for row, name in enumerate(of.items)}
        self._users = {name: row for row, name in enumerate(of.users)}
        self._sessions = {name: row for row, name in enumerate(of.sessions)}
        self._touched: dict[int, Counter[int]] = {}
        self._read = 0

    def scores(self, moment: Moment, items: list[str]) -> NDArray[np.float32] | None:
        """Return what it says of candidates, float32 (n,), for a moment not before the last one;
        None when the visitor has touched nothing."""
        self._follow(moment.offset)
        if moment.time_ms >= self._trained_ms + WEEK_MS:
            self._train(moment.time_ms)
        user = self._users.get(moment.request.user or "", -1)
        session = self._sessions.get(moment.request.session or "", -1)
        owner = user if user >= 0 else len(self._of.users) + session
        touched = self._touched.get(owner)
        if not touched:
            return None
        columns, counts = np.array(list(touched)), np.array(list(touched.values()), np.float32)
        row = np.zeros(len(columns), np.int32)
        mine = csr_matrix((counts, (row, columns)), (1, len(self._rows)))
        factors = self._model.recalculate_user(0, mine)
        return self._model.item_factors[[self._rows[item] for item in items]] @ factors

    def _follow(self, offset: int) -> None:
        """Learn what was touched up to an offset."""
        end = int(np.searchsorted(self._of.offset, offset, side="right"))
        owners, items = self._owner[self._read : end], self._of.item[self._read : end]
        for owner, item in zip(owners.tolist(), items.tolist(), strict=True):
            self._touched.setdefault(owner, Counter())[item] += 1
        self._read = max(self._read, end)

    def _train(self, now_ms: int) -> None:
        owners = [owner for owner, touched in self._touched.items() for _ in touched]
        items = [item for touched in self._touched.values() for item in touched]
        counts = [count for touched in self._touched.values() for count in touched.values()]
        _, rows = np.unique(owners, return_inverse=True)
        seen = csr_matrix(
            (np.array(counts, np.float32), (rows, np.array(items))),
            (int(rows.max()) + 1, len(self._rows)),
        )
        self._model = AlternatingLeastSquares(
            **self._settings, iterations=10, num_threads=1, random_state=self._seed
        )
        self._model.fit(seen, show_progress=False)
        self._trained_ms = now_ms
