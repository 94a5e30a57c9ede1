"""What commands that talk to a running server share: one connection, one way to fail."""

from http.client import HTTPConnection, HTTPException
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer

__all__ = ["Client", "KeyOption", "UrlOption", "fail"]

UrlOption = Annotated[str, typer.Option(help="The running server.")]
KeyOption = Annotated[
    str | None, typer.Option(help="A key for it, where it asks for one.", envvar="ONHAND_KEY")
]


def fail(message: str) -> NoReturn:
    """Say what is wrong, and end with status 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)


class Client:
    """A connection to a server."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            fail(f"{url} is not the address of a server; give one like http://127.0.0.1:8080")
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=60)

    def send(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> tuple[int, Any]:
        """Return status and decoded answer of a request; anything but JSON comes as text."""
        import msgspec

        content = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        try:
            self._connection.request(method, path, content, self._headers | {"content-type": media})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, HTTPException) as error:
            fail(
                f"{self._url} does not answer ({error}). Is it running? `onhand serve` starts one."
            )
        if "json" in response.getheader("content-type", ""):
            return response.status, msgspec.json.decode(answer)
        return response.status, answer.decode()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer of a request; one that is refused ends the command."""
        status, answer = self.send(method, path, body)
        if status >= 400:
            fail(answer["detail"] if isinstance(answer, dict) else str(answer))
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
