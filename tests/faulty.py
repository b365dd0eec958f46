"""A server of bytes, not of HTTP: it sends what a script says, when it says, and notes what it was asked."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from typing import Any

from worlds import START

Script = Callable[[socket.socket, str], None]


def reply(body: bytes = b'{"ok": 1}', status: str = "200 OK", kind: str = "application/json", **headers: Any) -> bytes:
    """A whole answer; a header given as None is left out."""
    fields = {"Date": formatdate(START, usegmt=True), "Content-Type": kind, "Content-Length": len(body)}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


class Faulty:
    """Plays `scripts` one a request, the last one for ever. `asked` holds the head of every request."""

    def __init__(self, *scripts: bytes | Script) -> None:
        self.scripts = list(scripts)
        self.asked: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.asked]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            for connection in self._open:
                with suppress(OSError):  # the client has gone already
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with self._guard:
            self._open.add(connection)
        try:
            while head := _head(connection):
                with self._guard:
                    self.asked.append(head)
                    script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                    self.in_flight += 1
                    self.most_in_flight = max(self.most_in_flight, self.in_flight)
                if isinstance(script, bytes):
                    connection.sendall(script)
                else:
                    script(connection, head)
                with self._guard:
                    self.in_flight -= 1
        except OSError:
            pass  # the client hung up, as some tests want
        finally:
            with self._guard:
                self._open.discard(connection)
            connection.close()


def _head(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return ""
        data += more
    return data.decode("latin-1")


def then_close(data: bytes) -> Script:
    """Send `data` and end the stream in good order (FIN)."""

    def play(connection: socket.socket, head: str) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return play


def then_reset(data: bytes) -> Script:
    """Send `data` and break the connection (RST)."""

    def play(connection: socket.socket, head: str) -> None:
        connection.sendall(data)
        time.sleep(0.02)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.close()

    return play


def drip(data: bytes, pause_s: float = 0.05) -> Script:
    """Send `data` byte by byte: no single read ever times out."""

    def play(connection: socket.socket, head: str) -> None:
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            time.sleep(pause_s)

    return play


@contextmanager
def serving(*scripts: bytes | Script) -> Iterator[Faulty]:
    server = Faulty(*scripts)
    try:
        yield server
    finally:
        server.close()
