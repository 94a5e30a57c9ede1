"""What commands that learn share: threads that wait quietly, and one way to fail."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import typer

__all__ = ["learning"]


@contextmanager
def learning(extra: str) -> Generator[None, None, None]:
    """Import and learn within this: what of `extra` is not installed, and what is refused, ends
    the command with a sentence and status 2."""
    # Threads that spin while they wait make training ten times slower beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from onhand.contracts.errors import OnhandError

    try:
        yield
    except ModuleNotFoundError as error:
        raise _failure(f"{error}: install it with `pip install 'onhand[{extra}]'`.") from None
    except OnhandError as error:
        raise _failure(error.message) from None


def _failure(message: str) -> typer.Exit:
    typer.echo(f"Error: {message}", err=True)
    return typer.Exit(2)
