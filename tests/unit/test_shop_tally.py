import random

import numpy as np
import pytest

from onhand.offline.shop.tally import Latencies, Rate, SoldOut


def test_percentiles_are_exact_to_the_microsecond():
    latencies = Latencies()
    values = [random.Random(1).lognormvariate(-7, 1) for _ in range(5_000)]
    for value in values:
        latencies.add(value)
    micros = sorted(int(value * 1e6) for value in values)
    for share in (0.5, 0.99, 0.999, 1.0):
        expected = micros[int(np.ceil(share * len(micros))) - 1] / 1000
        assert latencies.percentiles_ms(share) == [expected]


def test_slow_ones_are_counted_too():
    latencies = Latencies()
    for seconds in (0.001, 0.2, 3.0):
        latencies.add(seconds)
    assert latencies.percentiles_ms(0.3, 0.6, 1) == [1.0, 200.0, 3000.0]
    assert latencies.count == 3


def test_no_latency_has_no_percentile():
    assert Latencies().percentiles_ms(0.5, 0.999) == [0, 0]


def test_the_rate_is_that_of_the_last_second():
    rate = Rate()
    assert rate.at(10.0, 500) == 0
    assert rate.at(10.5, 600) == 200
    assert rate.at(11.5, 1600) == pytest.approx(1000)
    assert rate.at(13.5, 1600) == 0


def test_sold_out_holds_from_the_acknowledgement_to_the_next_delivery():
    sold_out = SoldOut()
    sold_out.send("A", 0)
    assert sold_out.shown(["A"], asked_s=1) == [], "not acknowledged yet"
    assert sold_out.acknowledge("A", 0, now_s=2)
    assert len(sold_out) == 1
    assert sold_out.shown(["A"], asked_s=1.5) == [], "asked before the acknowledgement"
    assert sold_out.shown(["A", "B"], asked_s=2.5) == ["A"]
    assert sold_out.send("A", 9)
    assert sold_out.shown(["A"], asked_s=2.6) == [], "the delivery may have been seen"
    assert len(sold_out) == 0


def test_a_delivery_on_its_way_is_no_sell_out():
    sold_out = SoldOut()
    sold_out.send("A", 0)
    sold_out.send("A", 5)
    assert not sold_out.acknowledge("A", 0, now_s=1)
    assert not sold_out.acknowledge("A", 5, now_s=1)
    assert len(sold_out) == 0


def test_a_sell_out_is_counted_once():
    sold_out = SoldOut()
    sold_out.send("A", 0)
    assert sold_out.acknowledge("A", 0, now_s=1)
    assert not sold_out.acknowledge("A", 0, now_s=2)


def test_what_is_gone_from_the_start_must_not_be_shown_and_is_counted_apart():
    sold_out = SoldOut(["A"])
    assert len(sold_out) == 0
    assert sold_out.shown(["A"], asked_s=1) == ["A"]
