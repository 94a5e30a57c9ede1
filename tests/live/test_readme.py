"""The README's tour, executed: its commands on a real server, its answers compared."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def tour() -> list[tuple[str, str]]:
    text = README.read_text()
    return BLOCK.findall(text[text.index("## Five minutes") :])


def matches(expected: object, found: object) -> bool:
    """Compare answers; `…` stands for what differs from run to run."""
    if expected == "…":
        return True
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(
            matches(value, found[name]) for name, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(matches, expected, found))
    return expected == found


@pytest.mark.live
def test_the_tour_does_what_it_says(server: Any, tmp_path: Path):
    """Every block but the first, which starts the server that the fixture has started."""
    blocks = tour()
    assert "onhand serve" in blocks[0][1]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    printed = ""
    ran = 0
    for language, block in blocks[1:]:
        if language == "json":
            found = json.loads(printed.strip().splitlines()[-1])
            assert matches(json.loads(block), found), (block, printed)
            continue
        command = [sys.executable, "-c", block]
        if language == "sh":
            script = block.replace("http://127.0.0.1:8080", server.url)
            script = script.replace("--data shop", f"--data {server.data}")
            script = script.replace("curl ", "curl --silent --show-error --fail-with-body ")
            command = ["bash", "-euc", script]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        printed = done.stdout
        ran += 1
    assert ran == 6
