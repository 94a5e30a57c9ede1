"""The server's log: whoever logs never waits, nothing is lost while there is room."""

import logging
import threading
from collections.abc import Iterator

import pytest

from onhand.serving import logs
from onhand.serving.logs import logged_behind


class Pipe(logging.Handler):
    """Takes lines only while somebody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self.read.wait(10)
        self.lines.append(record.getMessage())


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    root, pipe = logging.getLogger(), Pipe()
    before = root.handlers
    root.handlers = list[logging.Handler]([pipe])
    yield pipe
    root.handlers = before


def test_who_logs_does_not_wait_for_who_reads(pipe: Pipe) -> None:
    with logged_behind():
        for number in range(100):
            logging.error("line %d", number)
        assert not pipe.lines
        pipe.read.set()
    assert pipe.lines == [f"line {number}" for number in range(100)]
    logging.error("at once again")
    assert pipe.lines[-1] == "at once again"


def test_an_error_keeps_its_trace(pipe: Pipe) -> None:
    pipe.read.set()
    with logged_behind():
        try:
            raise KeyError("missing")
        except KeyError:
            logging.exception("it failed")
    assert "KeyError: 'missing'" in pipe.lines[0]


def test_lines_that_find_no_room_are_counted(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LINES", 10)
    with logged_behind():
        for number in range(100):
            logging.error("line %d", number)
        pipe.read.set()
    *kept, last = pipe.lines
    assert kept == [f"line {number}" for number in range(len(kept))]
    assert last.startswith(f"{100 - len(kept)} lines of the log were lost")


def test_a_log_that_nobody_reads_holds_up_no_end(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_STOP_S", 0.1)
    with logged_behind():
        logging.error("unread")
    assert not pipe.lines
    pipe.read.set()
