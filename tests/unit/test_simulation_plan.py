"""The plan of a flash sale: seeded, at its rates, and lawful about stock."""

import numpy as np

from onhand.offline.simulation.plan import (
    CLICK_SHARE,
    EVENT_TYPES,
    Change,
    Phase,
    Plan,
    Shop,
    draw_plan,
)

SHOP = Shop([f"i{n}" for n in range(300)], [2.5] * 300, ["gone"], ["17850"], ["GB", "DE"])
PHASES = [Phase(4, 500, 200, 100), Phase(2, 1500, 600, 300)]


def plan(seed: int = 7) -> Plan:
    return draw_plan(SHOP, PHASES, seed)


def stock_changes() -> dict[int, list[Change]]:
    """The stock changes of each item, in order."""
    by_item: dict[int, list[Change]] = {}
    for change in plan().changes:
        if change.stock is not None:
            by_item.setdefault(change.item, []).append(change)
    return by_item


def test_the_same_seed_plans_the_same_sale():
    one, same, other = plan(), plan(), plan(8)
    assert one.opening == same.opening
    assert one.changes == same.changes != other.changes
    assert all((a == b).all() for a, b in zip(one.reads, same.reads, strict=True))
    assert all((a == b).all() for a, b in zip(one.acts, same.acts, strict=True))


def test_pages_and_changes_come_at_the_rates_of_their_phases():
    at_us = plan().reads.at_us
    assert (np.diff(at_us) >= 0).all()
    assert ((at_us < 4e6).sum(), (at_us >= 4e6).sum()) == (2000, 3000)
    assert len(plan().changes) == 1000


def test_events_come_at_their_rate_with_the_clicks_to_come():
    sale = plan()
    wanted = 4 * (200 - 500 * CLICK_SHARE) + 2 * (600 - 1500 * CLICK_SHARE)
    assert abs(len(sale.acts.at_us) - wanted) < 0.1 * wanted
    assert (np.diff(sale.acts.at_us) >= 0).all()


def test_each_piece_sold_is_a_purchase_and_lowers_the_stock_by_one():
    sale = plan()
    for item, changes in stock_changes().items():
        left = sale.opening[item]
        for change in changes:
            assert change.stock is not None
            if change.sold:
                assert change.stock == left - 1 >= 0
            else:
                assert left == 0 < change.stock, "a delivery comes after a sell-out"
            left = change.stock
    purchases = (sale.acts.type == EVENT_TYPES.index("purchase")).sum()
    assert purchases == sum(change.sold for change in sale.changes)


def test_the_best_sellers_sell_out_within_seconds():
    first = stock_changes()[0]
    assert next(change.at_us for change in first if change.stock == 0) < 6e6
    assert any(change.price is not None for change in plan().changes)


def test_a_held_item_does_not_sell_until_the_hold_ends():
    held: set[int] = set()
    ends = 0
    for change in plan().changes:
        if change.held is not None:
            assert (change.item in held) != change.held
            held ^= {change.item}
            ends += not change.held
        assert not (change.sold and change.item in held)
    assert held or ends
