"""JSON Schema of records: the struct's own, and what a contract changes of it.

The OpenAPI document uses the same, so the two agree.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from onhand.contracts.contract import Contract, Field, standard
from onhand.contracts.shapes import RECORDS

__all__ = ["json_schema", "untagged"]

TAG: Final = "kind"
"""The field that tells records apart in the log; senders need not know it."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SHAPES: Final = {
    "digits": "^[0-9]+$",
    "word": "^[A-Za-z0-9_.:-]+$",
    "uuid": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
}


def json_schema(contract: Contract, ref_template: str = "#/$defs/{name}") -> dict[str, Any]:
    """Return the JSON Schema of a contract; `ref_template` says where its parts are found."""
    record = RECORDS[contract.kind]
    (_,), components = msgspec.json.schema_components([record], ref_template=ref_template)
    own = untagged(components.pop(record.__name__))
    known = standard(contract.kind).fields
    properties = {
        name: own["properties"][name] if field == known.get(name) else _property(own, name, field)
        for name, field in contract.fields.items()
    }
    for name, field in contract.fields.items():
        properties |= dict.fromkeys(field.aliases, properties[name])
    if contract.name not in RECORDS:
        properties["type"] = {"const": contract.name}
    schema: dict[str, Any] = {
        "$schema": _DIALECT,
        **own,
        "title": contract.record_name,
        "properties": properties,
        "required": [
            name
            for name, field in contract.fields.items()
            if field.required and field.default is None
        ],
    }
    if contract.unknown_fields == "reject":
        schema["additionalProperties"] = False
    return schema | ({"$defs": components} if components else {})


def untagged(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a struct's schema without its tag."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    if TAG not in properties:
        return schema
    return {
        **schema,
        "properties": {name: each for name, each in properties.items() if name != TAG},
        "required": [name for name in schema["required"] if name != TAG],
    }


def _property(own: Mapping[str, Any], name: str, field: Field) -> dict[str, Any]:
    """Return the schema of a field that the contract changes or adds."""
    type_ = ["integer", "string"] if field.type == "time" else field.type
    found: dict[str, Any] = dict(own["properties"].get(name, {"type": type_}))
    limits = {
        "minimum": field.minimum,
        "maximum": field.maximum,
        "maxLength": field.max_length if field.type == "string" else None,
        "pattern": _SHAPES[field.shape] if field.shape else None,
        "default": field.default,
    }
    found |= {key: value for key, value in limits.items() if value is not None}
    if field.units:
        found["description"] = f"RFC 3339, or a number of {' or '.join(field.units)} since 1970."
    elif field.unit:
        found["description"] = f"In {field.unit}."
    if field.from_text:
        return {"anyOf": [found, {"type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?$"}]}
    return found
