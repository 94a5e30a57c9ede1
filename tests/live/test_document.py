"""The server keeps to its OpenAPI document, whatever is sent: schemathesis on every operation."""

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
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
schema.config.phases.coverage.enabled = False
reached: dict[str, set[int]] = {}


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


@schema.parametrize()
@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_answer_is_documented(
    case: "schemathesis.Case[Any]", server: "Live", known: dict[str, Any]
) -> None:
    made_up = dict(case.path_parameters)
    there = {name: known.get(case.path, known.get(name, each)) for name, each in made_up.items()}
    for parameters in (made_up, there) if made_up else (made_up,):
        case.path_parameters = parameters
        answer = case.call(base_url=server.url)
        reached.setdefault(case.operation.label, set()).add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)


def test_every_operation_was_reached() -> None:
    paths = DOCUMENT["paths"].items()
    operations = {f"{method.upper()} {path}" for path, each in paths for method in each}
    if operations - reached.keys():
        pytest.skip("only some were run")
    unsuccessful = {label for label, statuses in reached.items() if min(statuses) >= 300}
    assert {label.rpartition("/")[2] for label in unsuccessful} <= UNSUCCESSFUL
