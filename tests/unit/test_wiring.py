import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from onhand import wiring
from onhand.contracts.errors import OnhandError
from onhand.serving.keys import KeyFile
from onhand.serving.server import Server, listen
from onhand.settings import Settings


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert wiring.is_loopback(host) is expected


FIRST_RECORDS_AND_PAGES = """
import gc
from numba.core.dispatcher import Dispatcher
from onhand import wiring
from onhand.contracts.records import Context, Event, Item, Signal
from onhand.engine import Engine
from onhand.log.memory import MemoryLog
from onhand.state.state import Limits

def compiled():
    kernels = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {str(each.py_func): len(each.overloads) for each in kernels}

wiring.warm_kernels()
engine = Engine(MemoryLog(), limits=Limits(64, 64, 64))
engine.load()
before = compiled()
context = Context(country="GB", device="mobile")
items = [Item(f"i{n}", title=f"mug {n}", brand=f"b{n % 3}", price=2.5, stock=5) for n in range(40)]
kinds = ("view", "click", "cart_add", "purchase")
events = [
    Event(kind, session=f"s{n % 3}", user="u", item=f"i{n}", id=f"{kind}{n}", context=context)
    for n in range(40) for kind in kinds
]
engine.ingest([*items, *events, events[0], Signal("i3", flags=["hold"]), Signal("i4", stock=0)])
for slot in ("home", "product", "cart"):
    engine.recommend(slot, session="s1", item="i5", context=context)
    engine.recommend(slot, exclude=["i7"], per_brand=1, variety=0.5, filter="price < 20")
engine.similar("i9")
print({name: count for name, count in compiled().items() if before.get(name) != count})
"""


def test_when_the_kernels_are_warm_the_first_records_and_pages_compile_none() -> None:
    command = [sys.executable, "-c", FIRST_RECORDS_AND_PAGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "{}\n", done.stderr


def test_an_address_that_is_taken_is_an_os_error() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_both_families_can_be_listened_on() -> None:
    with listen("127.0.0.1", 0) as first:
        assert first.family == socket.AF_INET
    with listen("::1", 0) as second:
        assert second.family == socket.AF_INET6


def test_a_folder_in_use_is_refused_by_name(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "data"))
    engine = wiring.build_engine(settings)
    with pytest.raises(OnhandError, match="open in another process"):
        wiring.build_engine(settings)
    engine.close()


def serve_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, settings: Settings
) -> str:
    def close_at_once(_server: Server, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.close()

    monkeypatch.setattr(Server, "run", close_at_once)
    with caplog.at_level(logging.INFO):
        assert wiring.serve(settings)
    return caplog.text


def test_without_keys_only_this_machine_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = str(tmp_path / "data")
    for refused in (
        Settings(data=data, host="0.0.0.0", port=0),
        Settings(data=data, port=0, admin_host="0.0.0.0", admin_port=1),
    ):
        with pytest.raises(OnhandError, match="onhand keys create") as caught:
            wiring.serve(refused)
        assert caught.value.code == "keys_needed"
    said = serve_for_a_moment(monkeypatch, caplog, Settings(data=data, port=0))
    assert "there are no keys" in said
    KeyFile(tmp_path / "other").create("read", 0)
    caplog.clear()
    outside = Settings(data=str(tmp_path / "other"), host="0.0.0.0", port=0)
    assert "there are no keys" not in serve_for_a_moment(monkeypatch, caplog, outside)
