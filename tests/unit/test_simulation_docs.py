"""What `docs/simulate.md` says is so: every fault and every option is in it."""

import re
from pathlib import Path

import typer

from onhand.cli.simulate import app
from onhand.serving.faults import FAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()


def test_every_fault_is_told_of():
    assert set(re.findall(r"`([a-z]+-[a-z]+)`", PAGE.partition("## Faults")[2])) == set(FAULTS)


def test_every_option_of_the_sale_is_in_the_table_and_no_other():
    command = typer.main.get_command(app).commands["flash-sale"]  # type: ignore[attr-defined]
    names = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    told = set(re.findall(r"--[a-z]+[a-z-]*", PAGE.partition("## What happens")[0]))
    assert told <= names
    assert names - told <= {"--help", "--ranker"}
