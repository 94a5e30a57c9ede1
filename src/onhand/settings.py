"""Settings: one frozen object, from a TOML file and the environment.

The environment (`ONHAND_PORT=9000`) wins over the file, and a command's own options win over
both. Every setting carries its type, its limits and its description; `docs/settings.md` is made
from them by `python -m onhand.settings`.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

__all__ = ["Settings", "SettingsError", "describe", "read_settings"]

_PREFIX: Final = "ONHAND_"
_DEFAULT_FILE: Final = "onhand.toml"


class SettingsError(ValueError):
    """A setting is unknown or has a value that cannot be; the message names it."""


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this process runs."""

    data: Annotated[
        str, Meta(min_length=1, description="Folder of the log and the checkpoints; made if new.")
    ] = "data"
    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on. Any but loopback needs keys: `onhand keys create`.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")
    ] = 8080
    poll_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Milliseconds after a request for which the server looks for the next "
            "without sleeping; 0: it sleeps at once. On a virtual machine 2 may make busy pages' "
            "p99 lower; it takes a whole processor while they come.",
        ),
    ] = 0.0
    awake: Annotated[
        bool,
        Meta(
            description="Keep the processors of a virtual machine awake, so that its host does not "
            "lend them to others and give them back milliseconds late. It takes all the time that "
            "nobody else wants: not where processor time is limited, or paid for.",
        ),
    ] = False
    body_bytes: Annotated[
        int, Meta(ge=1024, le=2**30, description="Largest request body in bytes; over it: 413.")
    ] = 16 * 1024 * 1024
    request_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Time a client has to send a head, and then a body; over it: 408.",
        ),
    ] = 30.0
    batch_records: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most records in one request; over it: 413. Page reads wait while a "
            "request is decoded and folded, about 8 microseconds a record.",
        ),
    ] = 1_000
    commit_records: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Records after which a group commit closes; the requests of one group "
            "share an fsync.",
        ),
    ] = 2_000
    queue_records: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Records that may wait for a commit; over it new ones get 503 with "
            "Retry-After.",
        ),
    ] = 50_000
    prepared_mb: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="Megabytes of lists that the active model prepared, about 600 a megabyte; "
            "those unused for longest leave.",
        ),
    ] = 64
    scoring_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Share of one processor's time that preparing lists may take.",
        ),
    ] = 0.3
    vector_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Share of decision records that also keep the features of what was shown, "
            "for `onhand features parity` and the drift metrics; about 3 kB a record.",
        ),
    ] = 0.0
    profile: Annotated[
        str,
        Meta(
            description="The `.profile.json` that a backfill wrote beside a training set: the "
            "metric `onhand_feature_drift` compares with it. Empty: none.",
        ),
    ] = ""
    checkpoint_records: Annotated[
        int,
        Meta(
            ge=1,
            description="Records after which the state is checkpointed, so that a restart "
            "folds few.",
        ),
    ] = 250_000
    origins: Annotated[
        str,
        Meta(
            max_length=4096,
            description="Web origins whose pages may send and read, separated by commas "
            "(`https://shop.example`), or `*`.",
        ),
    ] = ""
    admin_host: Annotated[
        str, Meta(description="Address of the admin routes, if they have a port of their own.")
    ] = "127.0.0.1"
    admin_port: Annotated[
        int,
        Meta(ge=0, le=65_535, description="Port of the admin routes; 0 serves them on `port`."),
    ] = 0
    dead_letter_bytes: Annotated[
        int, Meta(ge=1024, description="Most bytes of dead letters; the oldest leave first.")
    ] = 1 << 30
    dead_letter_days: Annotated[
        float, Meta(gt=0, le=3650, description="Days after which a dead letter leaves.")
    ] = 30.0
    faults: Annotated[
        bool,
        Meta(
            description="Let `onhand simulate` break parts of this server, for drills: only on "
            "loopback, without keys."
        ),
    ] = False
    checkpoint_minutes: Annotated[
        float,
        Meta(gt=0, description="Minutes after which the state is checkpointed if it changed."),
    ] = 5.0


def read_settings(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge defaults, the file, the environment and `options` (None means not given).

    The file is `file`, else what `ONHAND_CONFIG` names, else `onhand.toml` where there is one.
    Raises `SettingsError`.
    """
    path = file or _named_file(environment)
    values: dict[str, Any] = {} if path is None else _read_file(path)
    values |= _read_environment(environment)
    values |= {name: value for name, value in (options or {}).items() if value is not None}
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(error)) from None


def describe() -> str:
    """The settings as a Markdown page: `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Read from `onhand.toml` in the working folder (or the file that `ONHAND_CONFIG` or",
        "`--config` names), then from the environment, then from the command's own options;",
        "the later wins.",
        "",
        "| setting | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    hints = get_type_hints(Settings, include_extras=True)
    defaults = Settings()
    for name in Settings.__struct_fields__:
        meta = get_args(hints[name])[1]
        default = msgspec.json.encode(getattr(defaults, name)).decode()
        lines.append(f"| `{name}` | `{_PREFIX}{name.upper()}` | `{default}` | {meta.description} |")
    return "\n".join(lines) + "\n"


def _named_file(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(_PREFIX + "CONFIG")
    if named:
        return Path(named)
    default = Path(_DEFAULT_FILE)
    return default if default.is_file() else None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: environment[_PREFIX + name.upper()]
        for name in Settings.__struct_fields__
        if _PREFIX + name.upper() in environment
    }


def _explain(error: msgspec.ValidationError) -> str:
    known = ", ".join(f"`{name}`" for name in Settings.__struct_fields__)
    text = str(error).replace("Object contains unknown field", "There is no setting")
    text = text.replace(" - at `$.", ": setting `")
    return f"{text}. Known settings: {known}."


if __name__ == "__main__":
    print(describe(), end="")
