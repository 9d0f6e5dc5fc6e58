"""The page on a port: in a thread of its own, and to strangers only with users."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from twin.service.config import loopback
from twin.service.state import StateUnavailableError
from twin.service.web import access
from twin.service.web.page import Page

if TYPE_CHECKING:
    from typing import Self


class PublicAddressError(ValueError):
    """A bind that strangers could reach, and nobody would ask who they are."""


class Server:
    """The page on a port of its own, in a thread of its own.

    Parameters
    ----------
    app : FastAPI
        What :func:`.app.create_app` made.
    host, port : str, int
        Where; port 0 takes a free one. Without users, a loopback address.
    tls : pair of paths, optional
        Certificate and key; without, what is in front of it encrypts.
    beat : callable
        Called every other second, as long as the page's loop goes round.

    Raises
    ------
    PublicAddressError
        If others could reach it.
    OSError
        If the port is taken.

    Examples
    --------
    >>> with Server(app) as server:  # doctest: +SKIP
    ...     print(server.url)
    """

    def __init__(
        self,
        app: FastAPI,
        host: str = "127.0.0.1",
        port: int = 8080,
        beat: Callable[[], object] = lambda: None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        import uvicorn

        async def go_round() -> None:
            beat()

        door: access.Door = app.state.door
        if not loopback(host) and not _locked(door):
            raise PublicAddressError(
                f'web.host = "{host}": others could reach the page, and there are no '
                "users yet who could be asked for; make the first with "
                '"hptwin users add NAME --role admin", or use "127.0.0.1"'
            )
        door.public = not loopback(host)
        self._page: Page = app.state.page
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        # Inherited by what is accepted. asyncio would set it, but not on a socket
        # that was made without naming its protocol; an answer's second packet
        # would then wait 40 ms for the word that the first one came.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        place = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if tls else ''}://{place}:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=3,
                limit_concurrency=500,
                ssl_certfile=tls[0] if tls else None,
                ssl_keyfile=tls[1] if tls else None,
                callback_notify=go_round,
                timeout_notify=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [self._socket]},
            name="hptwin-page",
            daemon=True,
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the server's thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End every stream, then the server; safe to call twice."""
        self._page.stop.set()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _locked(door: access.Door) -> bool:
    try:
        return door.locked
    except StateUnavailableError:
        # Nobody comes in before it is known whether there is anybody.
        return True
