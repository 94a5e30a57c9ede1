import msgspec
import pytest

from onhand.contracts.contract import (
    Draft,
    Field,
    Incompatible,
    declare,
    find_breaks,
    follow,
    standard,
    succeed,
)
from onhand.contracts.errors import Fault, Invalid, Unknown
from onhand.contracts.gate import Gate
from onhand.contracts.json_schema import json_schema
from onhand.contracts.records import Event, Item
from onhand.contracts.registry import Registry, control_of
from onhand.contracts.shapes import RECORDS
from onhand.serving.openapi import build_openapi

NOW_MS = 1_795_000_000_000
GOOD = {"type": "view", "session": "s", "item": "a"}
NS: dict[str, object] = {
    "fields": {"time": {"type": "time", "units": ["milliseconds", "nanoseconds"]}}
}


def draft(**changes: object) -> Draft:
    return msgspec.convert(changes, Draft)


def gate(**changes: object) -> Gate[Event]:
    return Gate(succeed([standard("events")], draft(**changes)))


def outcome(judge: Gate[Event], **fields: object) -> object:
    found = judge.read(GOOD | fields, NOW_MS)
    return found.code if isinstance(found, Fault) else found


def test_the_standard_contract_is_the_struct() -> None:
    for kind, record in RECORDS.items():
        contract = standard(kind)
        assert list(contract.fields) == list(record.__struct_fields__)
        assert contract.version == 1
        assert not Gate(contract).reshapes


@pytest.mark.parametrize(
    ("field", "change", "reason"),
    [
        ("item", {"type": "string", "required": True}, "becomes required"),
        ("quantity", {"type": "integer", "maximum": 10}, "greatest value falls to 10"),
        ("value", {"type": "number", "minimum": 0}, "least value rises to 0"),
        ("id", {"type": "string", "max_length": 36}, "greatest length falls to 36"),
        ("id", {"type": "string", "shape": "uuid"}, "must be uuid"),
        ("time", {"type": "time", "units": ["nanoseconds"]}, "milliseconds are not taken"),
        ("margin", {"type": "number", "required": True}, "new field is required"),
    ],
)
def test_what_breaks_is_refused_with_field_and_reason(
    field: str, change: dict[str, object], reason: str
) -> None:
    with pytest.raises(Incompatible, match=reason) as caught:
        succeed([standard("events")], draft(fields={field: change}))
    assert f"`{field}`" in caught.value.message
    assert caught.value.status == 409
    taken = succeed([standard("events")], draft(fields={field: change}, compatibility="none"))
    assert taken.version == 2


def test_compatibility_is_transitive() -> None:
    first = standard("events")
    second = succeed([first], draft(**NS))
    third = draft(fields={"time": {"type": "time", "units": ["milliseconds"]}})
    with pytest.raises(Incompatible, match="version 2"):
        succeed([first, second], third)
    loose = succeed([first], draft(fields={"margin": {"type": "number"}}))
    dropped = succeed([first, loose], draft(fields={"margin": None}))
    again = draft(fields={"margin": {"type": "string"}})
    with pytest.raises(Incompatible, match="version 2"):
        succeed([first, loose, dropped], again)


def test_what_the_engine_cannot_keep_is_refused() -> None:
    for changes in (
        {"fields": {"item": {"type": "integer"}}},
        {"fields": {"quantity": {"type": "integer", "maximum": 10**9}}},
        {"fields": {"type": {"type": "string"}}},
        {"fields": {"type": None}},
        {"fields": {"Margin!": {"type": "number"}}},
        {"fields": {"margin": {"type": "object"}}},
        {"fields": {"item": {"type": "string", "aliases": ["user"]}}},
    ):
        with pytest.raises(Invalid):
            succeed([standard("events")], draft(**changes))
    with pytest.raises(Invalid, match="no place for more"):
        succeed([standard("signals")], draft(fields={"margin": {"type": "number"}}))
    with pytest.raises(Invalid, match="for events"):
        succeed([standard("items")], draft(lateness_ms=1000))


def test_a_unit_is_converted_only_if_the_contract_says_so() -> None:
    ns, us, s = NOW_MS * 10**6, NOW_MS * 1000, NOW_MS // 1000
    plain = Gate[Event](standard("events"))
    assert [outcome(plain, time=each) for each in (ns, us, s)] == ["time_unit"] * 3
    judge = gate(**NS)
    event = outcome(judge, time=ns)
    assert isinstance(event, Event)
    assert event.time == NOW_MS
    assert [outcome(judge, time=each) for each in (us, s)] == ["time_unit"] * 2
    assert outcome(judge, time=NOW_MS + 10**8) == "clock_skew"
    strict = gate(clock_skew_ms=1000, compatibility="none")
    assert outcome(strict, time=NOW_MS + 2000) == "clock_skew"


def test_fields_that_a_contract_adds_renames_and_fills() -> None:
    judge = gate(
        fields={
            "margin": {"type": "number", "minimum": 0},
            "item": {"type": "string", "aliases": ["sku"]},
            "quantity": {"type": "integer", "from_text": True},
            "session": {"type": "string", "default": "none"},
        }
    )
    event = judge.read({"type": "view", "sku": "a", "quantity": "3", "margin": 0.5}, NOW_MS)
    assert isinstance(event, Event)
    assert (event.item, event.quantity, event.session) == ("a", 3, "none")
    assert event.attributes == {"margin": 0.5}
    assert outcome(judge, margin=-1) == "range"
    assert outcome(judge, margin=True) == "wrong_type"
    assert outcome(judge, quantity="many") == "wrong_type"
    assert outcome(judge, quantity="2.5") == "wrong_type"


def test_the_semantic_checks_have_codes_of_their_own() -> None:
    judge = gate(
        currency="EUR",
        unknown_fields="reject",
        compatibility="none",
        fields={
            "value": {"type": "number", "maximum": 1000, "required": True},
            "item": {"type": "string", "shape": "digits"},
        },
    )
    good = {"item": "85123", "value": 2.5}
    assert isinstance(outcome(judge, **good, currency="EUR"), Event)
    assert outcome(judge, **good, currency="GBP") == "currency"
    assert outcome(judge, **good, colour="red") == "unknown_field"
    assert outcome(judge, item="85123", value=1e6) == "range"
    assert outcome(judge, item="85123") == "missing_field"
    assert outcome(judge, item="mug", value=1) == "id_shape"
    assert outcome(judge, **good, session="a\nb") == "id_shape"


def test_ga4_names_are_ours() -> None:
    event = outcome(gate(), type="add_to_cart")
    assert isinstance(event, Event)
    assert event.type == "cart_add"


def test_the_registry_is_what_the_controls_say() -> None:
    second = succeed([standard("events")], draft(**NS))
    control = control_of(second)
    body = msgspec.json.decode(msgspec.json.encode(control.body))
    own = declare("wish", draft(fields={"list": {"type": "string"}}))
    wider = follow([own], own)
    controls = {each.name: each.body for each in map(control_of, (own, wider))}
    registry = Registry({control.name: body, "rule": {"x": 1}} | controls)
    assert registry.versions("events") == [standard("events"), second]
    assert registry.version("events").fields["time"].units == ("milliseconds", "nanoseconds")
    assert registry.version("items").version == 1
    for number in (*range(1, 13), *range(100_001, 100_007)):
        assert registry.number(*registry.schema(number)[0]) == number
    assert registry.schema(10)[1] == second
    for number in (0, 13, 100_007, 2**31):
        with pytest.raises(Unknown, match=f"no schema {number}"):
            registry.schema(number)


def test_json_schema_agrees_with_the_openapi_document() -> None:
    document = build_openapi("1")["components"]["schemas"]
    for kind, record in RECORDS.items():
        own = json_schema(standard(kind))
        described = document[record.__name__]
        properties = msgspec.json.encode(own["properties"]).replace(b"$defs", b"components/schemas")
        assert msgspec.json.decode(properties) == described["properties"]
        assert own["required"] == described["required"]
    changed = json_schema(
        succeed([standard("items")], draft(fields={"price": {"type": "number", "from_text": True}}))
    )
    assert changed["properties"]["price"]["anyOf"][1]["type"] == "string"


def test_nothing_breaks_between_equal_contracts() -> None:
    for kind in RECORDS:
        assert find_breaks(standard(kind), standard(kind)) == []
    assert Item.__struct_fields__[0] == "id"
    assert Field("time").units == ()
