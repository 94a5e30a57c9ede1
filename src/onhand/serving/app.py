"""The ASGI application: hot routes first, the others through Starlette, every error a problem."""

import logging
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from onhand.contracts.errors import OnhandError
from onhand.serving.admin import AdminRoutes
from onhand.serving.body import ClientGone
from onhand.serving.contracts import ContractRoutes
from onhand.serving.guard import with_headers
from onhand.serving.hot import HotRoutes
from onhand.serving.letters import LetterRoutes
from onhand.serving.models import ModelRoutes
from onhand.serving.problems import HttpError, not_found, send_problem
from onhand.serving.routing import build_routes
from onhand.serving.segment import SegmentRoutes
from onhand.serving.service import Service
from onhand.serving.subjects import SubjectRoutes

__all__ = ["HANDLERS", "App"]

HANDLERS: Final[tuple[Callable[[Service], object], ...]] = (
    AdminRoutes,
    ContractRoutes,
    LetterRoutes,
    ModelRoutes,
    SegmentRoutes,
    SubjectRoutes,
)
"""The classes whose methods answer the routes of their names; `hot` has the others."""

_CLOSED = "the handler is closed"
"""What uvloop says of a write to a connection that broke before uvicorn heard of it."""

_log = logging.getLogger("onhand")


class App:
    """Everything the server answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        hot = HotRoutes(service)
        self._find_hot = hot.find
        self.answer_now = hot.answer_now
        handlers = [make(service) for make in HANDLERS]
        self._router = Router(
            build_routes(service, handlers),
            redirect_slashes=False,
            default=service.faults or _refuse_path,
        )
        self._guard = service.guard
        self.admits_page = service.guard.admits_page
        self.begin_round = service.monitor.begin_round

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; also the server's start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            headers = self._guard.check(scope)
            if headers:
                send = with_headers(send, headers)
            if scope["method"] == "OPTIONS" and await self._answer_preflight(scope, send):
                return
            await (self._find_hot(scope["path"]) or self._router)(scope, receive, send)
        except OnhandError as error:
            self._service.metrics.requests["other", error.status] += 1
            await send_problem(send, error)
        except ClientGone:
            self._service.metrics.requests["other", 499] += 1
        except Exception as error:
            if isinstance(error, RuntimeError) and _CLOSED in str(error):
                self._service.metrics.requests["other", 499] += 1
            else:
                await self._apologise(scope, send)

    async def _answer_preflight(self, scope: Scope, send: Send) -> bool:
        """Answer a browser that asks whether a page may send here."""
        headers = self._guard.preflight(scope)
        if headers is None:
            return False
        self._service.metrics.requests["other", 204] += 1
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        return True

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._service.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._service.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _apologise(self, scope: Scope, send: Send) -> None:
        """Answer 500 with an id under which the log holds the traceback; the server goes on."""
        reference = uuid4().hex[:12]
        _log.exception("error %s at %s %s", reference, scope["method"], scope["path"])
        self._service.metrics.requests["other", 500] += 1
        await send_problem(
            send,
            HttpError(
                500,
                "internal",
                f"This is a defect of the server. Its log has the details under {reference}.",
            ),
        )


async def _refuse_path(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    raise not_found(scope["path"])
