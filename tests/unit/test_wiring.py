import logging
import socket
from pathlib import Path

import pytest

from onhand import wiring
from onhand.contracts.errors import OnhandError
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


def test_the_kernels_warm_up() -> None:
    wiring.warm_kernels()


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


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_open_address_is_warned_of(
    host: str,
    warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def close_at_once(_server: Server, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.close()

    monkeypatch.setattr(Server, "run", close_at_once)
    with caplog.at_level(logging.INFO):
        assert wiring.serve(Settings(data=str(tmp_path / "data"), host=host, port=0))
    assert ("no authentication" in caplog.text) is warned
