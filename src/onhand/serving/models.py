"""The routes of the models."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from onhand.contracts.errors import Invalid
from onhand.contracts.models import Activation, ModelEntry, control_of
from onhand.serving.responses import json_response
from onhand.serving.service import Service

__all__ = ["ModelRoutes"]


class ModelRoutes:
    """Answers what models there are, and makes one active."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_models(self, _request: Request) -> Response:
        """Answer all models of the data folder."""
        self._service.require_ready()
        models = self._service.engine.models
        labels = await asyncio.to_thread(models.labels)
        return json_response([ModelEntry(label, label == models.active) for label in labels])

    async def get_model(self, request: Request) -> Response:
        """Answer the card of a model."""
        label: str = request.path_params["model"]
        artefact = await asyncio.to_thread(self._service.engine.models.load, label)
        return json_response(artefact.card)

    async def activate_model(self, request: Request) -> Response:
        """Check a model and make it active."""
        label: str = request.path_params["model"]
        async with self._service.registering:
            activation = await asyncio.to_thread(self._service.engine.models.check, label)
            await self._write(activation)
        return json_response(ModelEntry(label, True))

    async def deactivate_model(self, _request: Request) -> Response:
        """Go back to the default model."""
        async with self._service.registering:
            await self._write(None)
        return json_response(ModelEntry(self._service.engine.models.active, True))

    async def _write(self, activation: Activation | None) -> None:
        self._service.require_ready()
        report = await self._service.write([control_of(activation)])
        if report.rejected:
            raise Invalid(report.errors[0].code, report.errors[0].message)
