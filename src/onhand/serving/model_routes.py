"""The rows of the route table about models."""

from typing import Final

from onhand.contracts.models import Label, ModelEntry
from onhand.ranking.card import Card
from onhand.serving.route import ADMIN, READ, Answer, Parameter, Route

__all__ = ["MODEL_ROUTES"]

_MODELS: Final = "Models"
_MODEL = Parameter("model", "path", Label, "Name and version: `ranker@3`.")

MODEL_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", "/v1/models", "list_models", _MODELS,
        "What models there are",
        "Those in the data folder, by name and version, and which of them is active.",
        {200: Answer("The models.", list[ModelEntry])},
        access=(*READ, *ADMIN),
    ),
    Route(
        "GET", "/v1/models/{model}", "get_model", _MODELS,
        "The card of a model",
        "What it was trained on, how good it was on the last day of that, and which features "
        "decide.",
        {200: Answer("The card.", Card)},
        (_MODEL,),
        curl="/v1/models/ranker@1",
        problems=(404, 422),
        access=(*READ, *ADMIN),
    ),
    Route(
        "POST", "/v1/models/{model}/activate", "activate_model", _MODELS,
        "Make a model active",
        "Its files, its features and its figures are checked first; what fails is refused with "
        "the reason. The activation is a record in the log, and holds without a restart.",
        {200: Answer("The model, active from now on.", ModelEntry)},
        (_MODEL,),
        curl="/v1/models/ranker@1/activate",
        problems=(404, 422),
        access=ADMIN,
    ),
    Route(
        "POST", "/v1/models/deactivate", "deactivate_model", _MODELS,
        "Go back to the default model",
        "`default@1` orders candidates by the weighted sources of the slot.",
        {200: Answer("The default model, active from now on.", ModelEntry)},
        access=ADMIN,
    ),
)  # fmt: skip
