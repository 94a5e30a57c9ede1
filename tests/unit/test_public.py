import subprocess
import sys
import tomllib
from pathlib import Path

import onhand

INTENDED = {
    "Engine",
    "App",
    "Field",
    "Event",
    "Context",
    "Item",
    "ItemPatch",
    "ItemDelete",
    "Signal",
    "Fulfilment",
    "Control",
    "IngestReport",
    "Recommendation",
    "RecommendedItem",
    "OnhandError",
    "Invalid",
    "Unknown",
    "Unavailable",
    "__version__",
}


def test_exactly_the_intended_names_are_public() -> None:
    assert set(onhand.__all__) == INTENDED
    assert len(onhand.__all__) == len(INTENDED)
    for name in onhand.__all__:
        assert getattr(onhand, name) is not None


def test_other_names_are_not_there() -> None:
    assert not hasattr(onhand, "Engines")


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert onhand.__version__ == project["project"]["version"]


def test_help_imports_nothing_slow() -> None:
    probe = (
        "import sys\n"
        "sys.argv = ['onhand', '--help']\n"
        "from onhand.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = {'numba', 'numpy', 'polars', 'lightgbm', 'starlette', 'uvicorn', 'apsw'}\n"
        "print('SLOW', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "SLOW []"
    for command in (
        "serve",
        "ingest",
        "doctor",
        "version",
        "demo",
        "evaluate",
        "features",
        "replay",
        "explain",
        "prepare",
        "prepare",
    ):
        assert command in done.stdout
