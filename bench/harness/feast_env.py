"""A virtual environment of its own for `feast`, made when it is first needed."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

__all__ = ["feast_python", "run_feast"]

_HOME = Path(os.environ.get("ONHAND_FEAST_VENV", Path(__file__).parents[2] / ".venv-feast"))
_CLIENT = Path(__file__).with_name("feast_client.py")


def feast_python() -> Path | None:
    """Return the Python that has feast, None where it cannot be installed."""
    python = _HOME / "bin" / "python"
    if not python.exists():
        venv.create(_HOME, with_pip=True)
    has = subprocess.run([python, "-c", "import feast"], capture_output=True).returncode == 0
    if not has:
        print("installing feast into its own environment ...", file=sys.stderr)
        install = [python, "-m", "pip", "install", "--quiet", "feast[redis]"]
        has = subprocess.run(install, capture_output=True).returncode == 0
    return python if has else None


def run_feast(*arguments: str) -> dict[str, Any]:
    """Run `feast_client.py` and return what it prints last."""
    python = feast_python()
    if python is None:
        raise SystemExit("feast cannot be installed here; set ONHAND_FEAST_VENV to one that has it")
    done = subprocess.run(
        [python, str(_CLIENT), *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"FEAST_USAGE": "False", "IS_TEST": "True"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])
