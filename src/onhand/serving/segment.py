"""The routes of the Segment tracking API."""

from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.formats import SEGMENT
from onhand.contracts.segment import parse_segment
from onhand.serving.contract_routes import Success
from onhand.serving.responses import json_response
from onhand.serving.service import Service

__all__ = ["SegmentRoutes"]


class SegmentRoutes:
    """Takes what Segment's clients send."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def segment_batch(self, request: Request) -> Response:
        """Take a batch of messages."""
        return await self._take(request)

    async def segment_track(self, request: Request) -> Response:
        """Take one event."""
        return await self._take(request)

    async def segment_page(self, request: Request) -> Response:
        """Take one page view."""
        return await self._take(request)

    async def segment_screen(self, request: Request) -> Response:
        """Take one screen view."""
        return await self._take(request)

    async def segment_identify(self, request: Request) -> Response:
        """Take who a visitor is."""
        return await self._take(request)

    async def segment_group(self, request: Request) -> Response:
        """Take which group a visitor is of."""
        return await self._take(request)

    async def segment_alias(self, request: Request) -> Response:
        """Take another name of a visitor."""
        return await self._take(request)

    async def _take(self, request: Request) -> Response:
        """The clients retry what is not answered with 200, so a refused message is not an error:
        it is among the dead letters."""
        service = self._service
        service.require_ready()
        path = request.url.path
        gate = service.engine.contracts.gate("events")
        body = await service.read_records(request.scope, request.receive, gate, path)
        body.media = SEGMENT
        word = path.rpartition("/")[2]
        kind = None if word == "batch" else word
        now_ms, limits = service.now_ms(), service.limits
        await service.ingest(
            gate, lambda: parse_segment(gate, body.content, now_ms, limits, kind), body, path
        )
        return json_response(Success(True))
