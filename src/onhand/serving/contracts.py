"""The routes of the contracts."""

from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.avro import avro_schema
from onhand.contracts.contract import Contract, Draft
from onhand.contracts.errors import Invalid
from onhand.contracts.json_schema import json_schema
from onhand.contracts.protobuf import proto_text
from onhand.contracts.registry import control_of
from onhand.serving.responses import json_response, read_object, read_query
from onhand.serving.service import Service

__all__ = ["ContractRoutes"]


class Asked(Struct, forbid_unknown_fields=True):
    """Which version, in which form."""

    version: int | None = None
    format: Literal["contract", "json", "avro", "protobuf"] = "contract"


class ContractRoutes:
    """Answers what records must look like, and takes new versions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_contracts(self, _request: Request) -> Response:
        """Answer the latest version of every contract."""
        self._service.require_ready()
        registry = self._service.engine.contracts
        return json_response([registry.version(name) for name in registry.names])

    async def get_contract(self, request: Request) -> Response:
        """Answer one contract, or a schema made from it."""
        self._service.require_ready()
        asked = read_query(request, Asked)
        registry = self._service.engine.contracts
        contract = registry.version(request.path_params["name"], asked.version)
        if asked.format == "json":
            return json_response(json_schema(contract))
        if asked.format == "avro":
            return json_response(avro_schema(contract))
        if asked.format == "protobuf":
            versions = registry.versions(contract.name)[: contract.version]
            return Response(proto_text(versions), media_type="text/plain")
        return json_response(contract)

    async def post_contract(self, request: Request) -> Response:
        """Register the next version."""
        draft = await read_object(request, self._service, Draft)
        async with self._service.registering:
            contract = self._draft(request, draft)
            report = await self._service.write([control_of(contract)])
        if report.rejected:
            raise Invalid(report.errors[0].code, report.errors[0].message)
        return json_response(contract, 201)

    async def check_contract(self, request: Request) -> Response:
        """Answer what the next version would be."""
        return json_response(self._draft(request, await read_object(request, self._service, Draft)))

    def _draft(self, request: Request, draft: Draft) -> Contract:
        self._service.require_ready()
        return self._service.engine.contracts.draft(request.path_params["name"], draft)
