"""What the log and the routes say of models."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from onhand.contracts.records import Control

__all__ = ["DEFAULT", "MODEL_CONTROL", "Activation", "Label", "ModelEntry", "active", "control_of"]

DEFAULT: Final = "default@1"
"""What orders candidates while no trained model is active: the weighted sources of the slot."""
MODEL_CONTROL: Final = "model"
"""The control record that says which model is active; an empty body means `DEFAULT`."""

Label = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}@[1-9][0-9]{0,8}\Z")]


class Activation(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that is active: its name and version, and the SHA-256 of its manifest."""

    model: Label
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ModelEntry(Struct, frozen=True):
    """A model that lies in the data folder, and whether it is active."""

    model: str
    active: bool


def active(controls: Mapping[str, Any]) -> Activation | None:
    """Return which model the controls of a state name; None for `DEFAULT`."""
    body = controls.get(MODEL_CONTROL)
    return None if body is None else msgspec.convert(body, Activation)


def control_of(activation: Activation | None) -> Control:
    """Return the record that makes a model active."""
    return Control(MODEL_CONTROL, {} if activation is None else msgspec.to_builtins(activation))
