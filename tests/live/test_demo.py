"""`onhand demo` for real: it loads, serves, plays, answers its own curl lines, and cleans up."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.live

COMMAND = [sys.executable, "-c", "from onhand.cli import main; main()", "demo", "--port", "0"]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


class Run(NamedTuple):
    """What a run printed, what its curl lines answered while it ran, how it ended."""

    output: str
    curl_lines: list[str]
    statuses: list[str]
    exit_status: int
    left_behind: list[str]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(folder), "COLUMNS": "120"},
    )


def read_curl_lines(demo: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Read until the demo has printed its three commands."""
    assert demo.stdout is not None
    output, lines = "", list[str]()
    for line in demo.stdout:
        output += line
        if line.startswith("curl "):
            lines.append(line.strip())
        if len(lines) == 3:
            return output, lines
    raise AssertionError(f"the demo ended early:\n{output}")


def run_curl(line: str) -> str:
    command = [*shlex.split(line), "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    with start(folder, "--seconds", "5") as demo:
        output, lines = read_curl_lines(demo)
        statuses = [run_curl(line) for line in lines] if shutil.which("curl") else []
        assert demo.stdout is not None
        output += demo.stdout.read()
        status = demo.wait(60)
    return Run(output, lines, statuses, status, [entry.name for entry in folder.iterdir()])


def test_it_ends_by_itself_and_well(run: Run):
    assert run.exit_status == 0, run.output
    assert re.search(r"Loaded 4,\d{3} items and [1-4]\d\d,\d{3} events", run.output)
    assert re.search(r"sold out, yet shown +0 +of [\d,]{5,} impressions", run.output)


def test_its_curl_lines_work(run: Run):
    if not run.statuses:
        pytest.skip("curl is not installed")
    assert run.statuses == ["200", "202", "200"]
    assert run.output.count(run.curl_lines[0]) == 2, "before the play and in the summary"


def test_without_a_terminal_it_prints_plain_lines(run: Run):
    assert re.search(r"^ +\d+ s  [\d,]+ events/s  [\d,]+ decisions/s  p50 ", run.output, re.M)
    assert "\x1b[" not in run.output


def test_nothing_is_left_behind(run: Run):
    address = ADDRESS.search(run.output)
    assert address
    with pytest.raises(OSError, match="refused"):
        urlopen(address[0] + "/healthz", timeout=2)
    assert run.left_behind == []


def test_without_seconds_it_runs_until_it_is_told_to_end(tmp_path: Path):
    with start(tmp_path) as demo:
        output, _ = read_curl_lines(demo)
        assert demo.stdout is not None
        output += next(line for line in demo.stdout if "events/s" in line)
        demo.send_signal(signal.SIGTERM)  # which does as Ctrl-C does
        output += demo.stdout.read()
        assert demo.wait(60) == 0, output
    assert "Summary" in output
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_is_a_failure(tmp_path: Path):
    with start(tmp_path, "--seconds", "60") as demo:
        output, _ = read_curl_lines(demo)
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
        if not children.exists():
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
            pytest.skip("this system does not list a process's children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        assert demo.stdout is not None
        output += demo.stdout.read()
        assert demo.wait(60) == 1, output
    assert "The server ended by itself" in output


def test_a_folder_that_is_no_demo_is_refused(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with start(tmp_path, "--data", str(tmp_path)) as demo:
        assert demo.stdout is not None
        output = demo.stdout.read()
        assert demo.wait(30) == 1
    assert "no demo made" in " ".join(output.split())
    assert (tmp_path / "thesis.txt").exists()
