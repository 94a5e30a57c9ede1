"""Settings to concrete objects: the only place that picks a log, a store, a server."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import module_from_spec, spec_from_file_location
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import apsw
import msgspec
import numpy as np

from onhand.app import App
from onhand.contracts.errors import Invalid, Unavailable
from onhand.contracts.formats import AVRO, PROTOBUF, parse
from onhand.contracts.records import (
    EVENT_TYPES,
    Context,
    Event,
    Item,
    ItemDelete,
    ItemPatch,
    Signal,
)
from onhand.contracts.requests import SLOTS
from onhand.decision.lists import Whom
from onhand.decision.models import Models
from onhand.decision.prepared import Ranker, Reader
from onhand.engine import Engine
from onhand.features.drift import Profile
from onhand.log.dead_letters import DeadLetterStore
from onhand.log.decisions import DecisionStore
from onhand.log.faults import FaultyDisk
from onhand.log.memory import MemoryLog
from onhand.log.sqlite import SqliteLog, SqliteReader
from onhand.past import Past
from onhand.ranking.artefact import ModelStore
from onhand.ranking.model import Linear, Model
from onhand.serving.app import App as Routes
from onhand.serving.awake import stay_awake
from onhand.serving.faults import BreakingModels, Faults
from onhand.serving.keys import KeyFile
from onhand.serving.logs import logged_behind
from onhand.serving.memory import keep_heap, refuse_huge_pages
from onhand.serving.replica import Orders
from onhand.serving.server import Server, listen
from onhand.serving.service import Service, wall_clock_ms
from onhand.settings import Settings
from onhand.state.state import Limits

__all__ = [
    "build_engine",
    "is_loopback",
    "load_app",
    "open_dead_letters",
    "open_models",
    "open_past",
    "serve",
    "warm_kernels",
    "warm_pages",
    "warm_records",
]

_log = logging.getLogger("onhand")


def build_engine(settings: Settings, app: App | None = None) -> Engine:
    """The engine on the data folder of the settings, not loaded yet.

    Raises `LogRefused` when another process holds the log.
    """
    return _open(settings, app).engine


def load_app(path: Path | None) -> App:
    """The app that a Python file declares, the default one without a file. Raises `Invalid`."""
    if path is None:
        return App()
    spec = spec_from_file_location("onhand_app", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise Invalid("app_file", f"{path} is no Python file; name one that declares an App.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Invalid("app_file", f"{path} fails: {type(error).__name__}: {error}") from error
    apps = {id(each): each for each in vars(module).values() if isinstance(each, App)}
    if len(apps) != 1:
        raise Invalid("app_file", f"{path} declares {len(apps)} apps; one `onhand.App()` is it.")
    return apps.popitem()[1]


def open_past(folder: Path, app: App) -> Past:
    """The past of a data folder, which a server may be running on. Raises `LogRefused`."""
    log = SqliteReader(folder / "log.db")
    return Past(log, folder / "checkpoints", app.features, Limits())


def open_models(folder: Path, app: App, is_on: Callable[[str], bool] | None = None) -> Models:
    """The models of a data folder, which break where `is_on` says that a fault is."""
    kept = folder / "models"
    store = ModelStore(kept) if is_on is None else BreakingModels(kept, is_on)
    return Models(store, app.features)


class _Opened(NamedTuple):
    """What lies in a data folder."""

    engine: Engine
    log: SqliteLog
    decisions: DecisionStore


def _open(settings: Settings, app: App | None) -> _Opened:
    folder = Path(settings.data)
    folder.mkdir(parents=True, exist_ok=True)
    log = SqliteLog(folder / "log.db")
    decisions = DecisionStore(folder / "decisions.db")
    return _Opened(
        Engine(
            log,
            folder / "checkpoints",
            decisions,
            app=app,
            vector_share=settings.vector_share,
            profile=_profile(settings),
            models=ModelStore(folder / "models"),
            prepared_bytes=settings.prepared_mb << 20,
        ),
        log,
        decisions,
    )


def serve(settings: Settings, app: Path | None = None) -> bool:
    """Serve the app of a Python file until asked to stop; return whether the stop was by request.

    Listens at once, and loads behind that. Raises `OSError` when the address is taken,
    `OnhandError` when the data folder cannot be opened, or the file declares no app.
    """
    refuse_huge_pages()
    keep_heap()
    keys = KeyFile(Path(settings.data))
    _require_keys(settings, keys)
    with ExitStack() as held:
        held.enter_context(logged_behind())
        bound = [held.enter_context(listen(settings.host, settings.port))]
        if settings.admin_port:
            admin = listen(settings.admin_host, settings.admin_port)
            bound.append(held.enter_context(admin))
        host, port = bound[0].getsockname()[:2]
        service = _build_service(settings, keys, app)
        server = Server(Routes(service), settings.request_seconds)
        service.on_failure = server.fail
        if service.guard.open:
            _log.info("there are no keys: everybody on this machine may send, read, administer")
        shown = f"[{host}]" if ":" in host else host
        _log.info("onhand on http://%s:%d, data in %s", shown, port, settings.data)
        if settings.awake:
            held.enter_context(stay_awake())
        server.run(sockets=bound)
        return not server.failed


def _profile(settings: Settings) -> Profile | None:
    """The profile of a training set. Raises `Invalid` where the file is none."""
    if not settings.profile:
        return None
    try:
        return msgspec.json.decode(Path(settings.profile).read_bytes(), type=Profile)
    except (OSError, msgspec.DecodeError) as error:
        raise Invalid("profile", f"Setting `profile`: {settings.profile}: {error}.") from error


def _build_service(settings: Settings, keys: KeyFile, app: Path | None) -> Service:
    declared = load_app(app)
    faults = _open_faults(settings, keys)
    opened = _open(settings, declared)
    letters = open_dead_letters(settings)
    service = Service(
        opened.engine,
        settings,
        warm_kernels,
        now_ms=wall_clock_ms if faults is None else faults.now_ms,
        letters=letters,
        keys=keys,
        faults=faults,
        replica=Orders(
            settings.data,
            None if app is None else str(app),
            opened.engine.features.version,
            Limits(),
            opened.engine.lists.capacity,
            faults is not None,
        ),
    )
    service.metrics.gauges |= {
        "onhand_log_offset": ("Offset of the last durable record.", lambda: opened.log.last),
        "onhand_decisions_dropped": (
            "Decision records that the disk was too slow to keep.",
            lambda: opened.decisions.dropped,
        ),
    }
    return service


def _open_faults(settings: Settings, keys: KeyFile) -> Faults | None:
    """The switchboard, where the settings ask for one; it lies under all files opened later.

    Raises `Unavailable` where others than this machine, or only holders of keys, may come.
    """
    if not settings.faults:
        return None
    if not (is_loopback(settings.host) and is_loopback(settings.admin_host)) or keys.read():
        raise Unavailable(
            "faults_refused",
            "Setting `faults`: anyone who reaches this server could break it. It is for drills on "
            "loopback, in a data folder without keys.",
        )
    disk = FaultyDisk()
    apsw.set_default_vfs(disk.name)
    return Faults(disk, wall_clock_ms)


def _require_keys(settings: Settings, keys: KeyFile) -> None:
    """Refuse to serve others than this machine without keys."""
    hosts = [settings.host, *([settings.admin_host] if settings.admin_port else [])]
    outside = [host for host in hosts if not is_loopback(host)]
    if outside and not keys.read():
        raise Unavailable(
            "keys_needed",
            f"{outside[0]} is not loopback, and there are no keys in {settings.data}: anyone who "
            "reaches it could read and write. Create keys first: `onhand keys create ingest "
            f"--data {settings.data}`, the same for `read` and `admin`.",
        )


def open_dead_letters(settings: Settings) -> DeadLetterStore:
    """The dead letters of the data folder."""
    return DeadLetterStore(
        Path(settings.data) / "dead_letters.db",
        max_bytes=settings.dead_letter_bytes,
        max_age_ms=int(settings.dead_letter_days * 86_400_000),
    )


def warm_kernels() -> None:
    """Run every kind of record and slot through a small engine in memory.

    Kernels compile at their first call, for a minute or two where the disk has none kept: before
    the first request, not in it.
    """
    warm_records()
    warm_pages()


def warm_records() -> None:
    """The half of `warm_kernels` that reads and folds; two processes compile both at once."""
    engine = _open_small()
    engine.ingest(
        [
            Item("a", stock=1, price=1.0),
            Item("b"),
            Signal("a", stock=2, price=1.5),
            *(
                Event(
                    kind,
                    user="u",
                    session="s",
                    item=name,
                    query="q",
                    id=f"{kind}-{name}",
                    context=Context(country="GB"),
                )
                for kind in EVENT_TYPES
                for name in ("a", "b")
            ),
            ItemPatch("b", title="b"),
            ItemDelete("b"),
        ]
    )
    engine.load()  # reads the log back, as a restart does
    parse(engine.contracts, "signals", PROTOBUF, b"\x03\x0a\x01a", 0)
    with suppress(Invalid):
        parse(engine.contracts, "events", AVRO, b"\0\0\0\0\1", 0)  # cut off
    engine.item("a")
    engine.close()


def warm_pages() -> None:
    """The half of `warm_kernels` that decides."""
    engine = _open_small()
    for slot in SLOTS:
        engine.recommend(slot, user="u", session="s", item="a", context=Context(country="GB"))
        engine.recommend(slot)
    reader = Reader.every(engine.features)
    weights = Linear(np.zeros(len(reader.names), np.float32))
    model = Model("warm", 1, reader.names, reader.definitions, weights)
    engine.models.ranker = Ranker(model, engine.features)
    engine.prepare([Whom("home", "s", None)])
    engine.recommend("home", session="s")
    engine.close()


def _open_small() -> Engine:
    engine = Engine(MemoryLog(), limits=Limits(64, 64, 64, 4, pairs=8, event_ids=64))
    engine.load()
    return engine


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
