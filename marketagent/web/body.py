"""The bytes of an answer, unpacked, whole, and never more than asked for.

A client library unpacks gzip too, but takes a stream that ends early for one that ended, and unpacks 200 kB to 200 MB
(RELIABILITY, E8). Here a packed body must reach its own end mark, with the checksum in it, and the size is counted
while it grows.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Mapping


class Cut(Exception):
    """The body is not whole, or damaged on its way: another try may get it."""


class Unreadable(Exception):
    """The body is too large, or packed in a way we did not ask for: another try gets the same."""


ACCEPTED = "gzip, deflate"


async def read(chunks: AsyncIterable[bytes], headers: Mapping[str, str], most: int) -> bytes:
    """The whole body, unpacked; raises Cut or Unreadable. Neither its packed nor its unpacked size exceeds `most`."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise Unreadable(f"{declared[:20]} bytes, more than the {most} taken")
    unpacker = _unpacker(headers.get("content-encoding", ""), most)
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > most:
            raise Unreadable(f"more than the {most} bytes taken")
        unpacker.feed(chunk)
    if declared.isdecimal() and int(declared[:20]) != received:
        raise Cut(f"cut after {received} of {declared[:20]} bytes")
    return unpacker.finish()


def _unpacker(coding: str, most: int) -> "_Plain":
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        return _Plain()
    if coding in {"gzip", "x-gzip"}:
        return _Gzip(most)
    if coding == "deflate":
        return _Deflate(most)
    raise Unreadable(f"packed as {coding[:40]!r}, which was not asked for")


class _Plain:
    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._parts.append(data)

    def finish(self) -> bytes:
        return b"".join(self._parts)


class _Packed(_Plain, ABC):
    def __init__(self, most: int) -> None:
        super().__init__()
        self._room = most
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> None:
        while data:
            if self._stream is None or self._stream.eof:
                self._stream = self._next(data)
            try:
                # One byte more than there is room for: whether it comes tells a full body from a bomb.
                part = self._stream.decompress(data, self._room + 1)
            except zlib.error:
                raise Cut("packed bytes are damaged") from None
            self._room -= len(part)
            if self._room < 0:
                raise Unreadable("unpacks to more than is taken")
            self._parts.append(part)
            data = self._stream.unused_data

    def finish(self) -> bytes:
        if self._stream is not None and not self._stream.eof:
            raise Cut("packed bytes end before their end mark")
        return super().finish()

    @abstractmethod
    def _next(self, data: bytes) -> "zlib._Decompress":
        """What unpacks the stream that begins with `data`."""


class _Gzip(_Packed):
    def _next(self, data: bytes) -> "zlib._Decompress":
        return zlib.decompressobj(16 + zlib.MAX_WBITS)  # a gzip body is a series of members (RFC 1952, 2.2)


class _Deflate(_Packed):
    def _next(self, data: bytes) -> "zlib._Decompress":
        if self._stream is not None:
            raise Cut("bytes after the end mark")
        # RFC 9110 (8.4.1.2) means zlib's format; some servers send the bare stream. A zlib header is told by its
        # method (RFC 1950, 2.2): 8 in the low half of the first byte. A bare stream that starts so would be a stored
        # block with padding that is not zero, which no packer writes.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
