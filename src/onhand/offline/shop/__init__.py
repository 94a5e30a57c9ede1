"""A real gift shop, bundled, and the player that makes its days live traffic again.

`ledger` reads the books, `visits` derives the browsing behind each basket, `stock` derives the
stock behind the sales, `play` puts them in order. `store`, `server`, `client`, `traffic` and
`panel` are the demo around them: load a fresh store, start the server, play, watch.
"""

from onhand.offline.shop.ledger import Basket, Line, Product, catalogue, days, history
from onhand.offline.shop.play import Moment, Page, Play

__all__ = ["Basket", "Line", "Moment", "Page", "Play", "Product", "catalogue", "days", "history"]
