import numpy as np

from onhand.contracts.records import Item
from onhand.state.content import DIMENSIONS, item_words, move, pack, price_band, query_words, unpack


def vector(words: dict[str, float]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    row = np.zeros(DIMENSIONS, np.int8)
    unpack(row, np.array(pack(words), np.int64))
    return row.astype(np.int64)


def cosine(one: dict[str, float], other: dict[str, float]) -> float:
    a, b = vector(one), vector(other)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


MUG = Item("a", title="Red Mugs", category="home/kitchen", brand="Acme", tags=["gift"])


def test_a_vector_has_one_length_and_follows_from_the_item_alone():
    assert abs(np.linalg.norm(vector(item_words(MUG, 3))) - 127) < 3
    assert pack(item_words(MUG, 3)) == pack(item_words(MUG, 3))
    assert pack({}) == [0] * 8


def test_packing_keeps_every_byte():
    packed = pack(item_words(MUG, 0))
    assert np.array_equal(vector(item_words(MUG, 0)), np.array(packed, "<i8").view(np.int8))


def test_what_is_alike_is_near():
    other = Item("b", title="Blue mug", category="home/kitchen", brand="Acme")
    far = Item("c", title="Steel rake", category="garden/tools", brand="Bolt")
    mug = item_words(MUG, 0)
    assert cosine(mug, item_words(other, 0)) > 0.5 > cosine(mug, item_words(far, 0))
    assert cosine(mug, query_words("MUG")) > 0.2


def test_price_bands_are_half_again_as_wide():
    assert price_band(0) == 1
    assert price_band(10) < price_band(16) < price_band(25)
    assert price_band(10_000_000) < 64


def test_interest_stays_within_its_integers():
    interest, away = np.zeros(DIMENSIONS, np.int16), np.full(DIMENSIONS, -127, np.int8)
    for _ in range(200):
        move(interest, away, 5)
    assert interest.min() > np.iinfo(np.int16).min / 4
    move(interest, away, -2)
    assert interest[0] > -127 * 5 * 6
