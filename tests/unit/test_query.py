import pytest

from onhand.contracts.errors import Invalid, Refused
from onhand.serving.query import parse_recommend_query, parse_similar_n


def test_an_ordinary_page() -> None:
    request = parse_recommend_query("home", b"user=u1&session=s1&n=5&country=GB")
    assert (request.user, request.session, request.n) == ("u1", "s1", 5)
    assert request.context.country == "GB"
    assert request.exclude == []


def test_nothing_given_is_fine() -> None:
    assert parse_recommend_query("home", b"").n == 10
    assert parse_recommend_query("home", b"user=&session=s&n=").user is None


def test_percent_encoding_and_plus() -> None:
    assert parse_recommend_query("home", b"user=a%26b+c").user == "a&b c"
    assert parse_recommend_query("home", "user=ü".encode()).user == "ü"
    assert parse_recommend_query("home", b"user=%C3%BC").user == "ü"


def test_exclude_is_repeated_or_separated() -> None:
    request = parse_recommend_query("home", b"exclude=a,b&exclude=c&exclude=,d,")
    assert request.exclude == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"usr=u", "'usr'; known are `user`"),
        (b"usr=", "'usr'"),
        (b"n=0", "`n`"),
        (b"n=101", "`n`"),
        (b"n=ten", "it is 'ten'"),
        (b"n=1&n=2", "more than once"),
        (b"user=" + b"x" * 129, "`user`"),
        (b"device=" + b"x" * 65, "`device`"),
        (b"user=%FF", "UTF-8"),
        (b"user=\xff", "UTF-8"),
        (b"exclude=" + b",".join(b"%d" % i for i in range(501)), "exclude"),
    ],
)
def test_what_is_wrong_is_said(query: bytes, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_recommend_query("home", query)
    assert says in caught.value.message


def test_conditions() -> None:
    query = b"filter=brand+%3D+Acme&per_brand=2&per_category=3&variety=0.25"
    request = parse_recommend_query("home", query)
    assert request.filter == "brand = Acme"
    assert (request.per_brand, request.per_category, request.variety) == (2, 3, 0.25)
    with pytest.raises(Refused, match="its end"):
        parse_recommend_query("home", b"filter=brand+=")
    for wrong in (b"variety=2", b"per_brand=0", b"per_category=x"):
        with pytest.raises(Invalid):
            parse_recommend_query("home", wrong)


def test_similar_takes_n() -> None:
    assert parse_similar_n(b"") == 10
    assert parse_similar_n(b"n=100") == 100
    for wrong in (b"n=0", b"n=101", b"n=-1", b"n=x", "n=¼".encode(), b"m=1", b"n=1e1"):
        with pytest.raises(Invalid):
            parse_similar_n(wrong)
