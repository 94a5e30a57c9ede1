import msgspec
import pytest

from onhand.contracts.batch import parse_events, parse_items, parse_recommend, parse_signals
from onhand.serving.app import HANDLERS
from onhand.serving.openapi import build_openapi
from onhand.serving.query import RECOMMEND_PARAMETERS, SIMILAR_PARAMETERS
from onhand.serving.routes import ROUTES, Route

NOW_MS = 1_795_000_000_000
HOT = {
    "post_events",
    "put_items",
    "post_items",
    "post_signals",
    "get_recommend",
    "post_recommend",
    "get_similar",
}
DOCUMENT = build_openapi("1.2.3")


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        found: set[str] = set()
        for key, each in value.items():
            found |= {each} if key == "$ref" else references(each)
        return found
    if isinstance(value, list):
        return set().union(*(references(each) for each in value))
    return set()


def test_every_route_has_a_handler_and_every_handler_a_route() -> None:
    handlers = {name for each in HANDLERS for name in vars(each) if not name.startswith("_")}
    assert handlers | HOT == {route.name for route in ROUTES}
    assert not handlers & HOT


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_is_documented(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    assert operation["operationId"] == route.name
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert operation["x-curl"].startswith("curl")
    assert any(status.startswith("2") for status in operation["responses"])
    in_path = {part[1:-1] for part in route.path.split("/") if part.startswith("{")}
    assert in_path == {each.name for each in route.parameters if each.place == "path"}
    assert all(each.description for each in route.parameters)
    if route.body is not None:
        for content in operation["requestBody"]["content"].values():
            assert content.get("example") or content["schema"].get("contentEncoding")


def test_the_parameters_are_those_the_server_knows() -> None:
    for name, known in (
        ("get_recommend", RECOMMEND_PARAMETERS),
        ("get_similar", SIMILAR_PARAMETERS),
    ):
        route = next(route for route in ROUTES if route.name == name)
        in_query = [each.name for each in route.parameters if each.place == "query"]
        assert in_query == list(known)


def test_the_document_is_json_and_its_references_lead_somewhere() -> None:
    document = msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "1.2.3"
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known


def test_senders_need_no_kind() -> None:
    for name in ("Event", "Item", "Signal"):
        schema = DOCUMENT["components"]["schemas"][name]
        assert "kind" not in schema["properties"]
        assert "kind" not in schema["required"]


def test_path_fields_are_not_in_the_body() -> None:
    operation = DOCUMENT["paths"]["/v1/items/{id}"]["patch"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "id" not in schema["properties"]
    assert "price" in schema["properties"]


def test_the_examples_are_accepted() -> None:
    by_name = {route.name: route.body.example for route in ROUTES if route.body is not None}
    for name, parse in (
        ("post_events", parse_events),
        ("put_items", parse_items),
        ("post_signals", parse_signals),
    ):
        assert parse(msgspec.json.encode([by_name[name]]), False, NOW_MS).rejected == 0
    assert parse_recommend(msgspec.json.encode(by_name["post_recommend"]), "home").n == 5
