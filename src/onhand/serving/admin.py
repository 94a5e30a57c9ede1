"""The other routes: catalogue entries, decision records, probes, metrics, documentation."""

import asyncio
from importlib.resources import files
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from onhand import __version__
from onhand.contracts.batch import parse_feast, parse_features, parse_item_patch
from onhand.contracts.errors import Invalid, Unknown
from onhand.contracts.formats import MERGE_PATCH
from onhand.contracts.records import ItemDelete, ItemPatch
from onhand.contracts.registry import Registry
from onhand.serving.openapi import build_openapi
from onhand.serving.service import Service

__all__ = ["AdminRoutes"]

_JSON = "application/json"


class AdminRoutes:
    """Answers the routes whose rate does not matter; each method bears its route's name."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._encode = msgspec.json.Encoder().encode
        self._openapi: tuple[Registry, bytes] | None = None

    async def get_item(self, request: Request) -> Response:
        """Answer a catalogue entry with its live facts."""
        self._service.require_ready()
        return self._json(self._service.engine.item(request.path_params["id"]))

    async def patch_item(self, request: Request) -> Response:
        """Change part of a known item."""
        service = self._service
        service.require_ready()
        item: str = request.path_params["id"]
        gate, source = service.engine.contracts.gate("items"), f"/v1/items/{item}"
        body = await service.read_records(request.scope, request.receive, gate, source)
        body.media = MERGE_PATCH
        try:
            patch = parse_item_patch(body.content, item, service.now_ms())
            return await self._write(patch)
        except (Invalid, Unknown) as error:
            await service.refuse(gate, error, body, source)
            raise

    async def delete_item(self, request: Request) -> Response:
        """Take a known item out of the catalogue."""
        service = self._service
        service.require_ready()
        try:
            return await self._write(ItemDelete(request.path_params["id"]))
        except Unknown as error:
            gate = service.engine.contracts.gate("items")
            service.metrics.count_refusal(gate.label, error.code)
            raise

    async def get_decision(self, request: Request) -> Response:
        """Answer a decision record."""
        self._service.require_ready()
        record = self._service.engine.decision(request.path_params["id"])
        return Response(record + b"\n", media_type=_JSON)

    async def post_features(self, request: Request) -> Response:
        """Answer feature values."""
        engine, now_ms = self._service.engine, self._service.now_ms
        asked = parse_features(await self._body(request))
        return self._json(engine.read_features(asked, now_ms()))

    async def post_feast_features(self, request: Request) -> Response:
        """Answer feature values to a Feast client."""
        engine, now_ms = self._service.engine, self._service.now_ms
        asked = parse_feast(await self._body(request))
        return self._json(engine.read_feast(asked, now_ms()))

    async def explain_decision(self, request: Request) -> Response:
        """Answer a decision made again, with every candidate."""
        self._service.require_ready()
        explain = self._service.engine.explain
        return self._json(await asyncio.to_thread(explain, request.path_params["id"]))

    async def metrics(self, _request: Request) -> Response:
        """Answer the counters."""
        text = self._service.metrics.expose()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(self, _request: Request) -> Response:
        """Answer that the process runs."""
        return self._json({"status": "ok", "version": __version__})

    async def readyz(self, _request: Request) -> Response:
        """Answer whether pages can be."""
        self._service.require_ready()
        return self._json({"ready": True, "offset": self._service.engine.offset})

    async def openapi(self, _request: Request) -> Response:
        """Answer the OpenAPI document, by the contracts of the moment."""
        registry = self._service.engine.contracts
        if self._openapi is None or self._openapi[0] is not registry:
            self._openapi = registry, self._encode(build_openapi(__version__, registry))
        return Response(self._openapi[1], media_type=_JSON)

    async def docs(self, _request: Request) -> Response:
        """Answer the documentation page."""
        return _page("docs.html")

    async def landing(self, _request: Request) -> Response:
        """Answer the first page."""
        return _page("landing.html")

    async def _body(self, request: Request) -> bytes:
        self._service.require_ready()
        return await self._service.read_body(request.scope, request.receive)

    async def _write(self, record: ItemPatch | ItemDelete) -> Response:
        service = self._service
        report = await service.write([record])
        if report.rejected:
            raise Unknown(report.errors[0].code, report.errors[0].message)
        service.metrics.count_report(service.engine.contracts.gate("items").label, report)
        return self._json(report, 202)

    def _json(self, value: Any, status: int = 200) -> Response:
        return Response(self._encode(value) + b"\n", status, media_type=_JSON)


def _page(name: str) -> Response:
    content = files("onhand.serving").joinpath("pages", name).read_bytes()
    return Response(
        content,
        media_type="text/html",
        headers={
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'"
        },
    )
