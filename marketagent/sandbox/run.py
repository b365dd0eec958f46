"""The server of the sandbox: one port on loopback, a uvicorn whose protocols let a fault at the connection itself."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from marketagent.errors import Busy
from marketagent.sandbox.wire import TRANSPORT

HOST = "127.0.0.1"


def listening(port: int) -> socket.socket:
    """A socket that listens on `port` of loopback, any free one for 0; raises Busy where another holds it."""
    # With its protocol named, asyncio turns Nagle's algorithm off: otherwise each answer would wait 40 ms for an ACK.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(1024)
    except OSError as error:
        made.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Busy(f"port {port} is not free ({error.strerror}); choose another with --port") from error
        raise
    return made


def server(app: ASGIApp) -> uvicorn.Server:
    """A server for `app` that leaves signals alone; set `should_exit` and `force_exit` to end it."""
    config = uvicorn.Config(
        app,
        http=_Http,
        ws=_Socket,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,
        ws_max_size=1 << 20,
        timeout_keep_alive=75,  # as long as a real one waits: a client that reuses a connection does not meet its end
        backlog=1024,
    )
    return _Server(config)


def serve(app: ASGIApp, sock: socket.socket, begun: Callable[[Callable[[], None]], None]) -> None:
    """Serve until the function that is handed to `begun` is called; nobody's request is waited for then."""

    async def main() -> None:
        serving = server(app)

        def end() -> None:
            serving.should_exit = serving.force_exit = True

        begun(end)
        await serving.serve(sockets=[sock])

    asyncio.run(main())


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: signals are handled, and end with a documented code, where the command is."""
        yield


def _knowing(app: Any, transport: asyncio.Transport) -> ASGIApp:
    """`app` with the connection in its scope."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        scope[TRANSPORT] = transport
        await app(scope, receive, send)

    return called


class _Http(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _knowing(self.config.loaded_app, transport)


class _Socket(WebSocketsSansIOProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app = _knowing(self.config.loaded_app, self.transport)
