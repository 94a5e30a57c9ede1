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
        """Take a message, or a batch of them. The clients retry what is not answered with 200, so
        a refused message is not an error: it is among the dead letters."""
        service = self._service
        service.require_ready()
        path = request.url.path
        gate = service.engine.contracts.gate("events")
        body = await service.read_records(request.scope, request.receive, gate, path)
        body.media = SEGMENT
        word = path.rpartition("/")[2]
        kind = None if word == "batch" else word
        now_ms, limits = service.now_ms(), service.limits
        parsing = parse_segment(gate, body.content, now_ms, limits, kind)
        await service.ingest(gate, parsing, body, path)
        return json_response(Success(True))

    segment_track = segment_page = segment_screen = segment_batch
    segment_identify = segment_group = segment_alias = segment_batch
