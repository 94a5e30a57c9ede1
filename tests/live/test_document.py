"""The server keeps to its OpenAPI document, whatever is sent: schemathesis on every operation."""

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from onhand import __version__
from onhand.contracts.avro import avro_schema
from onhand.contracts.formats import AVRO, NDJSON, PROTOBUF
from onhand.contracts.protobuf import message_class
from onhand.contracts.registry import Registry
from onhand.serving.openapi import build_openapi

if TYPE_CHECKING:
    from tests.live.conftest import Live

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("shop")]

REGISTRY = Registry()
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
UNSUCCESSFUL = {"{subject}", "versions", "{model}", "activate"}
"""Last parts of paths that no made-up request succeeds on: it would need a schema or a model."""
IDS = st.text(max_size=6) | st.sampled_from(["i1", "i2"])
SENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["view", "purchase", "x", ""]), "session": IDS, "item": IDS}
)


def avro_file(event: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    fastavro.writer(file, avro_schema(REGISTRY.version("events")), [event])
    return file.getvalue()


def messages(event: dict[str, Any]) -> bytes:
    message = message_class(REGISTRY.versions("events"))(**event).SerializeToString()
    return bytes([len(message)]) + message


@schemathesis.serializer(NDJSON)
def one_line(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


schemathesis.openapi.media_type(AVRO, SENT.map(avro_file) | st.binary(max_size=99))
schemathesis.openapi.media_type(PROTOBUF, SENT.map(messages) | st.binary(max_size=99))
DOCUMENT = build_openapi(__version__)
schema = schemathesis.openapi.from_dict(DOCUMENT)
FOUND: list[Any] = list(schema.get_all_operations())
OPERATIONS = [each.ok() for each in FOUND]


@pytest.fixture
def known(server: "Live") -> dict[str, Any]:
    """What is there, for parameters in paths: a name made up leads to 404 and no further."""
    server.client.put("/v1/items", json=[{"id": "i1"}])
    decision = server.client.get("/v1/recommend/home").json()["decision"]
    return {
        "/v1/decisions/{id}": decision,
        "/v1/decisions/{id}/explain": decision,
        "id": "i1",
        "item": "i1",
        "name": "events",
        "number": 1,
        "subject": "events-value",
        "version": "latest",
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_documented(operation: Any, server: "Live", known: dict[str, Any]) -> None:
    reached: set[int] = set()

    def send(case: "schemathesis.Case[Any]") -> None:
        made_up = dict(case.path_parameters)
        there = {
            name: known.get(case.path, known.get(name, each)) for name, each in made_up.items()
        }
        for parameters in (made_up, there) if made_up else (made_up,):
            case.path_parameters = parameters
            answer = case.call(base_url=server.url)
            reached.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

    right = operation.as_strategy(GenerationMode.POSITIVE)
    wrong = operation.as_strategy(GenerationMode.NEGATIVE)

    @settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
    @given(st.tuples(*operation.get_strategies_from_examples(), right, right | wrong))
    def send_all(cases: "tuple[schemathesis.Case[Any], ...]") -> None:
        for case in cases:
            send(case)

    send_all()
    assert min(reached) < 300 or operation.path.rpartition("/")[2] in UNSUCCESSFUL


def test_every_operation_is_tried() -> None:
    paths = DOCUMENT["paths"].items()
    described = {f"{method.upper()} {path}" for path, each in paths for method in each}
    assert {operation.label for operation in OPERATIONS} == described
