import json

import msgspec
import pytest

from onhand.contracts.answers import IngestReport
from onhand.contracts.batch import (
    Limits,
    Parsed,
    TooLarge,
    merge,
    parse_events,
    parse_item_patch,
    parse_items,
    parse_json,
    parse_recommend,
    parse_signals,
)
from onhand.contracts.errors import Invalid, RecordError
from onhand.contracts.flaws import flaws_of
from onhand.contracts.gate import STANDARD
from onhand.contracts.records import Event, Item, Signal

NOW_MS = 1_795_000_000_000
GOOD = {"type": "view", "session": "s1", "item": "a"}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def events(value: object) -> Parsed[Event]:
    return parse_events(body(value), False, NOW_MS)


def only_error(content: bytes) -> RecordError:
    parsed = parse_events(content, False, NOW_MS)
    assert parsed.rejected == 1
    return parsed.errors[0]


@pytest.mark.parametrize(
    ("content", "ndjson"),
    [
        (body(GOOD), False),
        (body([GOOD]), False),
        (b"  " + body(GOOD) + b"\n", False),
        (body(GOOD), True),
        (body(GOOD) + b"\n", True),
        (body(GOOD) + b"\r\n\r\n", True),
    ],
)
def test_one_record_in_every_shape(content: bytes, ndjson: bool) -> None:
    parsed = parse_events(content, ndjson, NOW_MS)
    assert parsed.records == [Event("view", session="s1", item="a", time=NOW_MS)]
    assert (parsed.rejected, parsed.errors) == (0, [])


def test_good_records_survive_bad_neighbours() -> None:
    parsed = events([GOOD, {"type": 4}, GOOD, {"type": "view"}, "x", GOOD])
    assert len(parsed.records) == 3
    assert list(parsed.places) == [0, 2, 5]
    assert [(error.index, error.code) for error in parsed.errors] == [
        (1, "wrong_type"),
        (3, "missing_item"),
        (4, "wrong_type"),
    ]


def test_lines_are_records_one_by_one() -> None:
    content = body(GOOD) + b"\n\nnot json\n" + body(GOOD) + b" " + body(GOOD) + b"\n" + body(GOOD)
    parsed = parse_events(content, True, NOW_MS)
    assert len(parsed.records) == 2
    assert [(error.index, error.code) for error in parsed.errors] == [
        (1, "malformed"),
        (2, "malformed"),
    ]


def test_two_records_on_one_line_are_refused_whoever_their_neighbours_are() -> None:
    two = body(GOOD) + body(GOOD)
    assert parse_events(two, True, NOW_MS).rejected == 1
    assert parse_events(two + b"\n\n", True, NOW_MS).rejected == 1


@pytest.mark.parametrize("good", [GOOD, GOOD | {"attributes": {"x": 1e300}}])
def test_a_long_body_is_read_in_steps_to_the_same_records(good: dict[str, object]) -> None:
    bad = {700: {"type": 4}, 701: {"type": "view"}, 900: "x"}
    sent = [bad.get(index, good | {"id": f"{index}"}) for index in range(1_000)]
    steps = parse_json(STANDARD["events"], body(sent), False, NOW_MS)
    stretches = 0
    try:
        while True:
            next(steps)
            stretches += 1
    except StopIteration as end:
        parsed: Parsed[Event] = end.value
    assert stretches >= 1_000 // 256
    assert {each.place: each.fault.code for each in parsed.refused} == {
        700: "wrong_type",
        701: "missing_item",
        900: "wrong_type",
    }
    assert parsed.places == [index for index in range(1_000) if index not in bad]
    assert [event.id for event in parsed.records] == [str(index) for index in parsed.places]
    assert parsed.part(700) == b'{"type": 4}'


def test_numbers_with_long_exponents_are_what_they_are() -> None:
    for text, value in (("1e300", 1e300), ("1.5E+299", 1.5e299), ("3e-320", 3e-320)):
        sent = b'[{"type":"x","user":"u","attributes":{"n":%b}}]' % text.encode()
        assert parse_events(sent, False, NOW_MS).records[0].attributes == {"n": value}
    assert only_error(b'[{"type":"x","user":"u","value":1e999}]').code == "range"
    assert not parse_events(b'[{"type":"x","user":"u","new":1e999}]', False, NOW_MS).rejected


def test_events_of_many_items_are_counted_by_item() -> None:
    many = {"name": "view_item", "params": {"client_id": "c", "items": [{}] * 200}}
    with pytest.raises(TooLarge):
        events([many] * 26)


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"user": 7}, "wrong_type", "`user`: Expected `str | null`, got `int`; it is 7."),
        ({"position": -3}, "range", "it is -3."),
        ({"value": 1e300}, "range", "`value`"),
        ({"item": "x" * 500}, "length", "length <= 128"),
        ({"context": {"device": [1]}}, "wrong_type", "`context.device`"),
        ({"quantity": 0}, "range", "`quantity`"),
        ({"time": 1.5}, "wrong_type", "`time`"),
        ({"time": 2**80}, "range", "`time`"),
        ({"type": ""}, "length", "`type`"),
    ],
)
def test_an_error_names_the_field_and_the_value(fields: object, code: str, says: str) -> None:
    assert isinstance(fields, dict)
    error = only_error(body([GOOD | fields]))
    assert error.code == code
    assert says in error.message
    assert len(error.message) < 250


def test_a_missing_field_is_named() -> None:
    error = only_error(body({"user": "u"}))
    assert error.code == "missing_field"
    assert "`type`" in error.message


def test_a_wrong_kind_is_refused() -> None:
    assert only_error(body(GOOD | {"kind": "item"})).code == "value"


def test_unknown_fields_are_ignored() -> None:
    assert events([GOOD | {"color": {"of": ["anything"]}}]).rejected == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_body"),
        (b" \n ", "empty_body"),
        (b"5", "malformed"),
        (b'"text"', "malformed"),
        (b"[1,2", "malformed"),
        (b'[{"type": NaN}]', "malformed"),
        (b'{"type":"a","user":"u","value":Infinity}', "malformed"),
        (b'{"type":"a"}\n{"type":"b"}', "malformed"),
        (b"[" * 10_000, "too_deep"),
        (b'{"type":"a","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep"),
        (b'[{"a":' * 10_000, "too_deep"),
        (b"\xff\xfe", "malformed"),
    ],
)
def test_a_body_that_cannot_be_read_is_invalid(content: bytes, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_events(content, False, NOW_MS)
    assert caught.value.code == code
    assert caught.value.status == 400


def test_ndjson_sent_as_json_is_told_the_content_type() -> None:
    with pytest.raises(Invalid, match="application/x-ndjson"):
        parse_events(body(GOOD) + b"\n" + body(GOOD), False, NOW_MS)


def test_a_string_that_is_not_utf8_costs_only_its_record() -> None:
    content = b"[" + body(GOOD) + b',{"type":"view","session":"\xff","item":"a"}]'
    parsed = parse_events(content, False, NOW_MS)
    assert len(parsed.records) == 1
    assert parsed.errors[0].code == "not_utf8"


def test_half_a_surrogate_never_enters() -> None:
    for escape in (rb"\ud800", rb"\udc00", rb"\ud800x"):
        content = b'{"type":"view","session":"s","item":"' + escape + b'"}\n'
        assert parse_events(content, True, NOW_MS).rejected == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"1," * 1_000_000 + b"1]",
        b"[" + b"{}," * 1_000_000 + b"{}]",
        b"[" + (body(GOOD) + b",") * 100_000 + body(GOOD) + b"]",
    ],
    ids=["numbers", "empty", "good"],
)
def test_a_huge_array_is_refused_before_it_is_built(content: bytes) -> None:
    with pytest.raises(TooLarge) as caught:
        parse_events(content, False, NOW_MS)
    assert (caught.value.status, caught.value.code) == (413, "too_many_records")


def test_a_huge_number_of_lines_is_refused() -> None:
    with pytest.raises(TooLarge):
        parse_events(b"{}\n" * 1_000_000, True, NOW_MS)
    with pytest.raises(TooLarge):
        parse_events(b"1\n" * 1_000_000, True, NOW_MS)


def test_exactly_as_many_as_may_be() -> None:
    limits = Limits(records=3)
    nested = GOOD | {"context": {"device": "phone"}}
    assert len(parse_events(body([nested] * 3), False, NOW_MS, limits).records) == 3
    with pytest.raises(TooLarge):
        parse_events(body([nested] * 4), False, NOW_MS, limits)
    lines = (body(nested) + b"\n") * 3
    assert len(parse_events(lines, True, NOW_MS, limits).records) == 3
    with pytest.raises(TooLarge):
        parse_events(lines + body(nested), True, NOW_MS, limits)


def test_a_body_over_its_limit_is_refused() -> None:
    with pytest.raises(TooLarge) as caught:
        parse_events(body([GOOD] * 100), False, NOW_MS, Limits(body_bytes=1024))
    assert caught.value.code == "body_too_large"


def test_listed_errors_are_bounded_and_all_are_counted() -> None:
    parsed = events([{"type": 1}] * 500)
    assert parsed.rejected == 500
    assert len(parsed.errors) == 100
    checked = events([{"type": "view"}] * 500)
    assert checked.rejected == 500
    assert len(checked.errors) == 100


def test_items_and_signals() -> None:
    items = parse_items(body([{"id": "a", "attributes": {"x": 1}}, {"title": "t"}]), False, NOW_MS)
    assert [item.id for item in items.records] == ["a"]
    assert items.errors[0].code == "missing_field"
    signals = parse_signals(body([{"item": "a", "stock": 0}, {"item": "a"}]), False, NOW_MS)
    assert signals.records[0].stock == 0
    assert signals.errors[0].code == "no_facts"


def test_a_wrong_attribute_key_is_told() -> None:
    parsed = parse_items(body([{"id": "a", "attributes": {"": 1}}]), False, NOW_MS)
    assert "key in `attributes`" in parsed.errors[0].message


def test_a_patch_takes_its_id_from_the_path() -> None:
    patch = parse_item_patch(b'{"price":2}', "a/b", NOW_MS)
    assert (patch.id, patch.price) == ("a/b", 2.0)
    assert parse_item_patch(b'{"id":"a","stock":null}', "a", NOW_MS).stock is None
    with pytest.raises(Invalid, match="not the item of the path"):
        parse_item_patch(b'{"id":"b"}', "a", NOW_MS)
    with pytest.raises(Invalid, match="`price`"):
        parse_item_patch(b'{"price":"2"}', "a", NOW_MS)
    for wrong in (b"", b"[]", b"nonsense", b'{"created":5000000000000000}', b"{" * 10_000):
        with pytest.raises(Invalid):
            parse_item_patch(wrong, "a", NOW_MS)


def test_a_recommendation_request_in_json() -> None:
    request = parse_recommend(b'{"session":"s","n":3,"context":{"country":"GB"}}', "home")
    assert (request.slot, request.n, request.context.country) == ("home", 3, "GB")
    with pytest.raises(Invalid, match="known are"):
        parse_recommend(b'{"colour":1}', "home")
    with pytest.raises(Invalid, match="`n`"):
        parse_recommend(b'{"n":1000}', "home")


def test_reports_of_both_stages_become_one() -> None:
    errors = [RecordError(1, "x", "m")]
    parsed = Parsed([Item("a"), Item("b")], [0, 2], 1, errors, (), lambda _: b"")
    late = IngestReport(1, 0, 1, 9, [RecordError(1, "y", "m")])
    report = merge(parsed, late)
    assert (report.accepted, report.rejected, report.offset) == (1, 2, 9)
    assert [(error.index, error.code) for error in report.errors] == [(1, "x"), (2, "y")]
    clean = IngestReport(2, 0, 0, 9)
    assert merge(Parsed([Item("a")], range(1), 0, [], (), parsed.part), clean) is clean


def test_what_is_decoded_is_what_was_sent() -> None:
    whole = GOOD | {
        "id": "e1",
        "time": NOW_MS,
        "value": 2.5,
        "quantity": 2,
        "query": "q",
        "position": 1,
        "dwell_ms": 5,
        "decision": "d",
        "context": {"device": "phone", "country": "GB", "referrer": "r"},
    }
    assert msgspec.to_builtins(events([whole]).records[0]) == whole | {"kind": "event"}


@pytest.mark.parametrize("record", [Event, Item, Signal])
def test_plain_flaws_are_in_the_words_of_a_conversion(record: type) -> None:
    name = {Event: "type", Item: "id", Signal: "item"}[record]
    flaws = flaws_of(record)
    values = (None, False, 7, -1, 1.0, 2.5, "", "x", [], [1], {}, {"a": 1})
    for field in (name, *record.__struct_fields__, "unknown"):
        for value in values:
            for sent in ({name: "x"} | {field: value}, {}, value):
                flaw = flaws.find(sent)
                if flaw is not None:
                    with pytest.raises(msgspec.ValidationError) as caught:
                        msgspec.convert(sent, record)
                    assert str(caught.value) == flaw
    assert flaws.find({name: "x"}) is None
