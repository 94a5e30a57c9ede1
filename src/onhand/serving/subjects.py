"""The schema registry as Confluent's clients know it: subjects, versions, schema ids.

Subjects are named as the default strategy of those clients names them for a topic: `events-value`
for Avro; the other formats have topics of their own, `events-protobuf` and `events-json`. Errors
carry `error_code` beside the members of a problem document.
"""

from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.avro import avro_schema
from onhand.contracts.errors import OnhandError, Unknown
from onhand.contracts.json_schema import json_schema
from onhand.contracts.protobuf import proto_base64, proto_text, same_proto
from onhand.contracts.registry import FORMATS, Format, Registry
from onhand.serving.responses import json_response, read_object
from onhand.serving.route import SCHEMA_REGISTRY
from onhand.serving.service import Service

__all__ = ["SubjectRoutes"]

_TYPES: Final[dict[Format, str]] = {"avro": "AVRO", "protobuf": "PROTOBUF", "json": "JSON"}
_DECORATION: Final = ("doc", "aliases", "namespace", "default", "connect.name", "order")


_CODES: Final = {
    40401: "unknown_subject",
    40402: "unknown_version",
    40403: "unknown_schema",
    42201: "not_registered_here",
}


class RegistryError(OnhandError):
    """An error in the form of the registry."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(_CODES[number], message)
        self.status = number // 100
        self.extra = {"error_code": number, "message": message}


class Asked(Struct):
    """A schema that a client asks about."""

    schema: str
    schemaType: str = "AVRO"  # noqa: N815 - the protocol's name


class _Subject(NamedTuple):
    name: str
    contract: str
    format: Format


class SubjectRoutes:
    """Answers what serializers of Confluent's clients ask."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_subjects(self, _request: Request) -> Response:
        """Answer all subjects."""
        registry = self._registry
        names = [_name(contract, format_) for contract in registry.names for format_ in FORMATS]
        return _answer(names)

    async def list_subject_versions(self, request: Request) -> Response:
        """Answer the versions of a subject."""
        subject = self._subject(request)
        count = len(self._registry.versions(subject.contract))
        return _answer(list(range(1, count + 1)))

    async def get_subject_version(self, request: Request) -> Response:
        """Answer one version of a subject."""
        subject = self._subject(request)
        count = len(self._registry.versions(subject.contract))
        text: str = request.path_params["version"]
        if text in ("latest", "-1"):
            return _answer(self._describe(subject, count, _serialized(request)))
        if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:10]) <= count:
            raise RegistryError(40402, f"Version {text[:40]} not found.")
        described = self._describe(subject, int(text), _serialized(request))
        return _answer(described)

    async def find_subject_schema(self, request: Request) -> Response:
        """Answer which version of a subject has a schema."""
        subject = self._subject(request)
        asked = await read_object(request, self._service, Asked)
        return _answer(self._describe(subject, self._find(subject, asked)))

    async def register_subject_schema(self, request: Request) -> Response:
        """Answer the id of a schema that is registered."""
        subject = self._subject(request)
        asked = await read_object(request, self._service, Asked)
        try:
            version = self._find(subject, asked)
        except RegistryError:
            raise RegistryError(
                42201,
                "Schemas are registered as contracts here: `onhand contracts register`, or "
                f"POST /v1/contracts/{subject.contract}.",
            ) from None
        number = self._registry.number(subject.contract, version, subject.format)
        return _answer({"id": number})

    async def get_schema(self, request: Request) -> Response:
        """Answer the schema of an id."""
        text: str = request.path_params["number"]
        number = int(text) if text.isdecimal() and text.isascii() and len(text) < 11 else 0
        try:
            found, _ = self._registry.schema(number)
        except Unknown as error:
            raise RegistryError(40403, error.message) from None
        subject = _Subject(_name(found.name, found.format), found.name, found.format)
        described = self._describe(subject, found.version, _serialized(request))
        return _answer({name: described[name] for name in ("schema", "schemaType")})

    async def list_schema_types(self, _request: Request) -> Response:
        """Answer the kinds of schema."""
        return _answer(list(_TYPES.values()))

    @property
    def _registry(self) -> Registry:
        self._service.require_ready()
        return self._service.engine.contracts

    def _subject(self, request: Request) -> _Subject:
        name: str = request.path_params["subject"]
        for contract in self._registry.names:
            for format_ in FORMATS:
                if name == _name(contract, format_):
                    return _Subject(name, contract, format_)
        raise RegistryError(40401, f"Subject {name[:100]!r} not found.")

    def _describe(
        self, subject: _Subject, version: int, serialized: bool = False
    ) -> dict[str, Any]:
        return {
            "subject": subject.name,
            "version": version,
            "id": self._registry.number(subject.contract, version, subject.format),
            "schemaType": _TYPES[subject.format],
            "schema": self._schema(subject, version, serialized),
        }

    def _schema(self, subject: _Subject, version: int, serialized: bool = False) -> str:
        versions = self._registry.versions(subject.contract)[:version]
        if subject.format == "protobuf":
            return proto_base64(versions) if serialized else proto_text(versions)
        make = avro_schema if subject.format == "avro" else json_schema
        return msgspec.json.encode(make(versions[-1])).decode()

    def _find(self, subject: _Subject, asked: Asked) -> int:
        """Return the version that has the schema, the latest first."""
        for version in range(len(self._registry.versions(subject.contract)), 0, -1):
            if _is_same(subject.format, asked.schema, self._schema(subject, version)):
                return version
        raise RegistryError(40403, "Schema not found.")


def _answer(value: Any) -> Response:
    return json_response(value, media=SCHEMA_REGISTRY)


def _name(contract: str, format_: Format) -> str:
    return f"{contract}-value" if format_ == "avro" else f"{contract}-{format_}-value"


def _serialized(request: Request) -> bool:
    """Whether Protobuf is asked for compiled, as Python's client does."""
    return b"format=serialized" in request.scope["query_string"]


def _is_same(format_: Format, asked: str, own: str) -> bool:
    if format_ == "protobuf":
        return same_proto(asked, own)
    try:
        return _plain(msgspec.json.decode(asked)) == _plain(msgspec.json.decode(own))
    except (msgspec.DecodeError, RecursionError):
        return False


def _plain(schema: Any) -> Any:
    """A schema without what does not change how data is written."""
    if isinstance(schema, dict):
        plain = {name: _plain(each) for name, each in schema.items() if name not in _DECORATION}
        if isinstance(plain.get("name"), str):
            plain["name"] = plain["name"].rpartition(".")[2]
        return plain["type"] if set(plain) == {"type"} else plain
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    return schema
