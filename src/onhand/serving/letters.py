"""The routes of the dead letters."""

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.errors import Invalid, Unavailable, Unknown
from onhand.contracts.letters import DeadLetter, LetterFilter
from onhand.log.dead_letters import DeadLetterStore
from onhand.serving.contract_routes import Purged
from onhand.serving.responses import json_response, read_object, read_query
from onhand.serving.service import Service

__all__ = ["LetterRoutes"]


class Listing(Struct, forbid_unknown_fields=True):
    """Which letters to list."""

    contract: str | None = None
    code: str | None = None
    source: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Annotated[int, Meta(ge=0, le=2**62)] = 0


class LetterRoutes:
    """Answers what was refused; retries and forgets it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_dead_letters(self, request: Request) -> Response:
        """Answer letters, the oldest first."""
        asked = read_query(request, Listing)
        which = LetterFilter(asked.contract, asked.code, asked.source)
        letters = await asyncio.to_thread(self._store.read, which, asked.limit, asked.after)
        return json_response([_shown(letter) for letter in letters])

    async def dead_letter_stats(self, _request: Request) -> Response:
        """Answer counts by contract and code."""
        return json_response(await asyncio.to_thread(self._store.stats))

    async def get_dead_letter(self, request: Request) -> Response:
        """Answer one letter."""
        text: str = request.path_params["number"]
        if not text.isdecimal() or not text.isascii() or len(text) > 18:
            raise Invalid("parameter", f"`number` is {text[:60]!r}; send a whole number.")
        letters = await asyncio.to_thread(self._store.read, LetterFilter(number=int(text)), 1)
        if not letters:
            raise Unknown("unknown_dead_letter", f"There is no dead letter {text}.")
        return json_response(_shown(letters[0]))

    async def retry_dead_letters(self, request: Request) -> Response:
        """Put letters in that today's contracts can read."""
        which = await read_object(request, self._service, LetterFilter)
        return json_response(await self._service.retry(which))

    async def purge_dead_letters(self, request: Request) -> Response:
        """Forget letters."""
        which = await read_object(request, self._service, LetterFilter)
        return json_response(Purged(await asyncio.to_thread(self._store.purge, which)))

    @property
    def _store(self) -> DeadLetterStore:
        store = self._service.letters
        if store is None:
            raise Unavailable("no_dead_letters", "This server keeps no dead letters.")
        return store


def _shown(letter: DeadLetter) -> dict[str, Any]:
    """A letter with its bytes as base64, and as text where they are."""
    fields: dict[str, Any] = msgspec.to_builtins(letter)
    try:
        fields["text"] = letter.raw.decode()
    except UnicodeDecodeError:
        fields["text"] = None
    return fields
