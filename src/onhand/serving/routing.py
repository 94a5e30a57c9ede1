"""From the route table to handlers: each method of a handler class bears its route's name."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from onhand.contracts.errors import OnhandError
from onhand.serving.problems import HttpError, method_not_allowed, send_problem
from onhand.serving.routes import ROUTES
from onhand.serving.service import Service

__all__ = ["build_routes", "refuse_query"]

_Handler = Callable[[Request], Awaitable[Response]]


def build_routes(service: Service, handlers: Iterable[object]) -> list[BaseRoute]:
    """Starlette routes for every path of the table that has a handler."""
    by_path: dict[str, dict[str, _Handler]] = {}
    with_query: set[str] = set()
    for route in ROUTES:
        for each in handlers:
            handler = getattr(each, route.name, None)
            if handler is not None:
                by_path.setdefault(route.path, {})[route.method] = handler
        if any(each.place == "query" for each in route.parameters):
            with_query.add(route.path)
    return [
        Route(path.replace("{id}", "{id:path}"), _Path(path, methods, service, path in with_query))
        for path, methods in sorted(by_path.items(), key=lambda entry: "{" in entry[0])
    ]


def refuse_query(scope: Scope, known: str = "") -> None:
    """Refuse a query string where none but one parameter is known."""
    query: bytes = scope["query_string"]
    for pair in query.split(b"&") if query else ():
        name = pair.partition(b"=")[0][:60].decode("latin-1")
        if name != known:
            raise HttpError(
                400, "unknown_parameter", f"There is no parameter {name!r}; this route takes none."
            )


class _Path:
    """All methods of one path, as an ASGI callable."""

    def __init__(
        self, path: str, handlers: Mapping[str, _Handler], service: Service, takes_query: bool
    ) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._takes_query = takes_query
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]
        self._requests = service.metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(scope, receive)
        except OnhandError as error:
            self._requests[self._path, error.status] += 1
            await send_problem(send, error, getattr(error, "extra", None))
        else:
            self._requests[self._path, response.status_code] += 1
            await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        method: str = scope["method"]
        handler = self._handlers.get(method)
        if handler is None:
            raise method_not_allowed(method, tuple(self._handlers))
        if self._path.startswith("/v1/") and not self._takes_query:
            refuse_query(scope)
        return await handler(Request(scope, receive))
