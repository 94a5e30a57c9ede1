"""A model on disk: a folder of plain arrays and JSON, every byte of it under a hash.

    models/ranker@3/
        manifest.json   name, version, kind of scorer, features in order, hash of their
                        definitions, SHA-256 of the other files
        scorer.npz      the scorer's arrays: no objects, nothing that runs
        card.json       what it was trained on and how good it was

The SHA-256 of the manifest stands for the whole model: a control record activates it by that. A
folder appears under its name only when it is whole, and is never written again.
"""

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from onhand.contracts.errors import Refused, Unknown
from onhand.ranking.card import Card
from onhand.ranking.model import LABEL, Linear, Model, Scorer, parse_label
from onhand.ranking.trees import LEAVES, TreeArrays, TreeEnsemble

__all__ = ["Artefact", "ModelStore"]

_MANIFEST: Final = "manifest.json"
_SCORER: Final = "scorer.npz"
_CARD: Final = "card.json"
_MOST_BYTES: Final = 64 << 20
_MOST_FEATURES: Final = 1_000
_PROBES: Final = 64


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What `manifest.json` says."""

    name: str
    version: int
    kind: str
    features: list[str]
    definitions: str
    files: dict[str, str]


class Artefact(NamedTuple):
    """A model with its card, and the SHA-256 of its manifest."""

    model: Model
    card: Card
    sha256: str


class ModelStore:
    """The models in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def labels(self) -> list[str]:
        """Return what models there are, by name and version."""
        if not self._folder.is_dir():
            return []
        names = [path.name for path in self._folder.iterdir() if LABEL.fullmatch(path.name)]
        return sorted(names, key=parse_label)

    def next_version(self, name: str) -> int:
        """Return the version that the next model of this name gets."""
        versions = [version for each, version in map(parse_label, self.labels()) if each == name]
        return max(versions, default=0) + 1

    def save(self, model: Model, card: Card) -> str:
        """Write a model and return its SHA-256. Raises `FileExistsError` when it is there."""
        kind, arrays = _arrays(model.scorer)
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **arrays)
        files = {
            _SCORER: packed.getvalue(),
            _CARD: msgspec.json.format(msgspec.json.encode(card)) + b"\n",
        }
        hashes = {name: _hash(content) for name, content in files.items()}
        manifest = Manifest(
            model.name, model.version, kind, list(model.features), model.definitions, hashes
        )
        files[_MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{model.label}.partial"
        aside.mkdir(exist_ok=True)
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        target = self._folder / model.label
        if target.exists():
            raise FileExistsError(f"{target} exists; a model is never written again")
        aside.rename(target)
        return _hash(files[_MANIFEST])

    def load(self, label: str) -> Artefact:
        """Read a model and check all of it. Raises `Unknown` where there is none, `Refused` where
        it is not whole or does not make sense."""
        parse_label(label)
        folder = self._folder / label
        if not folder.is_dir():
            known = ", ".join(self.labels()[-20:]) or "none yet; `onhand train` makes one"
            raise Unknown("unknown_model", f"There is no model {label}; known are: {known}.")
        content = _read(folder, _MANIFEST)
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _refused(label, f"{_MANIFEST}: {error}") from None
        if f"{manifest.name}@{manifest.version}" != label:
            raise _refused(label, f"its manifest is that of {manifest.name}@{manifest.version}")
        files = {name: _read(folder, name) for name in (_SCORER, _CARD)}
        for name, found in files.items():
            if _hash(found) != manifest.files.get(name):
                raise _refused(label, f"{name} is not the file that its manifest names")
        try:
            card = msgspec.json.decode(files[_CARD], type=Card)
            scorer = _scorer(manifest, files[_SCORER])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile, msgspec.DecodeError) as error:
            raise _refused(label, str(error)) from None
        model = Model(
            manifest.name, manifest.version, tuple(manifest.features), manifest.definitions, scorer
        )
        return Artefact(model, card, _hash(content))


def _refused(label: str, why: str) -> Refused:
    return Refused("model_refused", f"Model {label} cannot be used: {why}.")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _refused(folder.name, f"{name}: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise _refused(folder.name, f"{name} is larger than {_MOST_BYTES >> 20} MiB")
    return content


def _arrays(scorer: Scorer) -> tuple[str, dict[str, NDArray[Any]]]:
    """Return the kind of a scorer and its arrays."""
    if isinstance(scorer, TreeEnsemble):
        return "trees", scorer.arrays._asdict()
    if isinstance(scorer, Linear):
        return "linear", {"weights": scorer.weights}
    raise TypeError(f"a {type(scorer).__name__} cannot be kept")


def _scorer(manifest: Manifest, content: bytes) -> Scorer:
    """Return the scorer of a file. Raises ValueError or KeyError where it makes no sense."""
    if not 0 < len(manifest.features) <= _MOST_FEATURES:
        raise ValueError(f"{len(manifest.features)} features; 1 to {_MOST_FEATURES} can be read")
    files = zipfile.ZipFile(io.BytesIO(content)).infolist()
    if sum(each.file_size for each in files) > _MOST_BYTES:
        raise ValueError(f"{_SCORER} unpacks to more than {_MOST_BYTES >> 20} MiB")
    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    if manifest.kind == "trees":
        scorer: Scorer = _trees(arrays, len(manifest.features))
    elif manifest.kind == "linear":
        _check(arrays, "weights", np.float32, (len(manifest.features),))
        scorer = Linear(arrays["weights"])
    else:
        raise ValueError(f"a scorer of kind {manifest.kind!r} is not known here")
    probes = np.random.default_rng(0).standard_normal((_PROBES, len(manifest.features)))
    if not np.isfinite(scorer.score(probes.astype(np.float32))).all():
        raise ValueError("it scores candidates with what is no finite number")
    return scorer


def _trees(arrays: Mapping[str, NDArray[Any]], n_features: int) -> TreeEnsemble:
    """Return an ensemble that a kernel can follow without looking."""
    trees, splits = len(arrays["value"]), len(arrays["feature"])
    _check(arrays, "value", np.float32, (trees, LEAVES))
    _check(arrays, "first", np.int32, (trees + 1,))
    _check(arrays, "feature", np.int32, (splits,))
    _check(arrays, "threshold", np.float32, (splits,))
    _check(arrays, "keep", np.uint32, (splits,))
    first, feature = arrays["first"], arrays["feature"]
    if first[0] != 0 or first[-1] != splits or (np.diff(first) < 0).any():
        raise ValueError("`first` does not cut the splits into trees")
    if splits and not (feature.min() >= 0 and feature.max() < n_features):
        raise ValueError(f"a split looks at a feature that is none of its {n_features}")
    if not arrays["keep"].all():
        raise ValueError("a split rules out every leaf")
    in_order = (arrays[name] for name in TreeArrays._fields)
    return TreeEnsemble(TreeArrays(*in_order), n_features)


def _check(
    arrays: Mapping[str, NDArray[Any]], name: str, dtype: type, shape: tuple[int, ...]
) -> None:
    array = arrays[name]
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise ValueError(f"`{name}` is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"`{name}` has values that are no finite numbers")
