"""The hot routes: one bare ASGI callable each, no framework between the socket and the engine."""

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Final
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from onhand.contracts.answers import IngestReport
from onhand.contracts.batch import parse_recommend
from onhand.contracts.errors import OnhandError, Unknown
from onhand.contracts.formats import parse_in_steps
from onhand.contracts.requests import SLOTS, RecommendRequest, Slot
from onhand.contracts.shapes import Kind
from onhand.serving.problems import Header, HttpError, method_not_allowed, send_json, send_problem
from onhand.serving.query import parse_recommend_query, parse_similar_n
from onhand.serving.routing import refuse_query
from onhand.serving.service import Service

__all__ = ["HotRoutes"]

_RECOMMEND: Final = "/v1/recommend/"
_SIMILAR: Final = "/v1/similar/"

_PAGES: Final = ("/v1/recommend/{slot}", 200)


class HotRoutes:
    """Finds and answers the routes whose rate matters."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._engine = service.engine
        self._metrics = service.metrics
        self._monitor = service.monitor
        self._encode = msgspec.json.Encoder().encode
        self._headers: list[Header] = []
        self._head = b""
        self._slots = {(_RECOMMEND + slot).encode(): slot for slot in SLOTS}
        self._exact: dict[str, ASGIApp] = {
            "/v1/events": partial(self._ingest, ("POST",), "events"),
            "/v1/signals": partial(self._ingest, ("POST",), "signals"),
            "/v1/items": partial(self._ingest, ("PUT", "POST"), "items"),
            **{_RECOMMEND + slot: partial(self._recommend, slot) for slot in SLOTS},
        }

    def find(self, path: str) -> ASGIApp | None:
        """Return the callable for `path`, or None where another router must look."""
        found = self._exact.get(path)
        if found is None and path.startswith(_SIMILAR):
            return self._similar
        if found is None and path.startswith(_RECOMMEND):
            return self._unknown_slot
        return found

    def answer_now(self, url: bytes, headers: list[Header]) -> bytes | None:
        """Answer a page read as the bytes of a whole response, `headers` among its own.

        None where there is more to it than an answer: then `find` says who has the rest.
        """
        path, _, query = url.partition(b"?")
        slot = self._slots.get(path)
        if slot is None or not self._service.ready or b"#" in query:
            return None
        began_s = perf_counter()
        try:
            request = parse_recommend_query(slot, query)
        except OnhandError:
            return None
        body = self._decide(request)
        if headers is not self._headers:  # a new list each second
            self._headers, self._head = headers, _head(headers)
        answer = b"%b%d\r\n\r\n%b\n" % (self._head, len(body) + 1, body)
        self._metrics.requests[_PAGES] += 1
        self._metrics.page_seconds.observe(perf_counter() - began_s)
        return answer

    async def _recommend(self, slot: Slot, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = perf_counter()
        method: str = scope["method"]
        status = 200
        try:
            if not self._engine.answers(slot):
                self._service.require_ready()
            if method == "GET" or method == "HEAD":
                request = parse_recommend_query(slot, scope["query_string"])
            elif method == "POST":
                request = await self._read_recommend(slot, scope, receive)
            else:
                raise method_not_allowed(method, ("GET", "HEAD", "POST"))
            body = self._decide(request)
        except OnhandError as error:
            status = error.status
            await send_problem(send, error)
        else:
            await send_json(send, 200, body)
            self._metrics.page_seconds.observe(perf_counter() - began_s)
        self._metrics.requests["/v1/recommend/{slot}", status] += 1

    async def _read_recommend(self, slot: str, scope: Scope, receive: Receive) -> RecommendRequest:
        refuse_query(scope)
        return parse_recommend(await self._service.read_body(scope, receive), slot)

    def _decide(self, request: RecommendRequest) -> bytes:
        monitor = self._monitor
        decided = self._engine.decide_as_json(
            request,
            self._service.now_ms(),
            monitor.waited_s * 1000,
            monitor.takes_cheaper(),
        )
        self._metrics.decisions[decided.tier, decided.degraded] += 1
        return decided.json

    async def _similar(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        began_s = perf_counter()
        status = 200
        try:
            self._service.require_ready()
            if scope["method"] not in ("GET", "HEAD"):
                raise method_not_allowed(scope["method"], ("GET", "HEAD"))
            n = parse_similar_n(scope["query_string"])
            item = unquote(scope["raw_path"].decode("ascii")[len(_SIMILAR) :])
            body = self._encode(self._engine.similar(item, n, self._service.now_ms()))
        except OnhandError as error:
            status = error.status
            await send_problem(send, error)
        else:
            await send_json(send, 200, body)
            self._metrics.page_seconds.observe(perf_counter() - began_s)
        self._metrics.requests["/v1/similar/{item}", status] += 1

    async def _unknown_slot(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        slot: str = scope["path"][len(_RECOMMEND) :]
        known = ", ".join(SLOTS)
        error = Unknown("unknown_slot", f"There is no slot {slot[:60]!r}; known are {known}.")
        await send_problem(send, error)
        self._metrics.requests["/v1/recommend/{slot}", 404] += 1

    async def _ingest(
        self, methods: Sequence[str], kind: Kind, scope: Scope, receive: Receive, send: Send
    ) -> None:
        began_s = perf_counter()
        status = 202
        try:
            if scope["method"] not in methods:
                raise method_not_allowed(scope["method"], methods)
            report = await self._write(kind, scope, receive)
        except OnhandError as error:
            status = error.status
            await send_problem(send, error)
        else:
            if report.rejected and not report.accepted and not report.duplicates:
                status = 422
                await send_problem(send, _nothing_accepted(report), msgspec.to_builtins(report))
            else:
                await send_json(send, 202, self._encode(report))
            self._metrics.ingest_seconds.observe(perf_counter() - began_s)
        self._metrics.requests[f"/v1/{kind}", status] += 1

    async def _write(self, kind: Kind, scope: Scope, receive: Receive) -> IngestReport:
        service = self._service
        service.require_ready()
        refuse_query(scope, "key")
        registry = self._engine.contracts
        gate, source = registry.gate(kind), f"/v1/{kind}"
        body = await service.read_records(scope, receive, gate, source, binary=True)
        now_ms, limits = service.now_ms(), service.limits
        parsing = parse_in_steps(registry, kind, body.media, body.content, now_ms, limits)
        return await service.ingest(gate, parsing, body, source)


def _head(headers: list[Header]) -> bytes:
    """Return the head of an answer with `headers`, up to the length of its body."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    return b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: " % lines


def _nothing_accepted(report: IngestReport) -> HttpError:
    first = report.errors[0]
    return HttpError(
        422,
        "nothing_accepted",
        f"None of the {report.rejected} records was accepted. The first was refused because: "
        f"{first.message}",
    )
