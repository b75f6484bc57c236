"""As much of RFC 6455 as a client needs that shall cost next to nothing: handshake, masking, taking frames apart."""

import struct
import zlib
from collections.abc import Iterator

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
_LAST, _COMPRESSED, _MASKED = 0x80, 0x40, 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_NO_MASK = b"\0\0\0\0"
"""A key of zeros, which a server takes like any other, and which changes nothing."""
_END_OF_BLOCK = b"\0\0\xff\xff"
END_OF_HEAD = b"\r\n\r\n"


def handshake(port: int, *, deflate: bool = False) -> bytes:
    """With `deflate` the offer is the one that browsers make."""
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if deflate:
        lines.append("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    return "\r\n".join([*lines, "", ""]).encode()


def agrees_to_deflate(head: bytes) -> bool:
    """Whether the server's answer to a handshake takes up the offer."""
    return b"permessage-deflate" in head


def text(payload: bytes, *, deflate: bool = False) -> bytes:
    """A frame of a client. Each is compressed by itself, which the extension allows."""
    if not deflate:
        return _frame(TEXT, payload)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    compressed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return _frame(TEXT | _COMPRESSED, compressed.removesuffix(_END_OF_BLOCK))


def pong(payload: bytes) -> bytes:
    return _frame(PONG, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _TWO_BYTES:
        head = struct.pack("!BB", _LAST | first, _MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _LAST | first, _MASKED | _TWO_BYTES, size)
    else:
        head = struct.pack("!BBQ", _LAST | first, _MASKED | _EIGHT_BYTES, size)
    return head + _NO_MASK + payload


class Frames:
    """What a server sends, as whole frames. It does not split messages, so a frame is a message."""

    __slots__ = ("_inflater", "_rest")

    def __init__(self, *, deflate: bool = False) -> None:
        self._rest = b""
        self._inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS) if deflate else None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames that are complete now, as (opcode, payload)."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= 2:
            size, begins = data[at + 1], at + 2
            if size == _TWO_BYTES:
                begins += 2
            elif size == _EIGHT_BYTES:
                begins += 8
            if begins > end:
                break
            if size >= _TWO_BYTES:
                size = int.from_bytes(data[at + 2 : begins], "big")
            if begins + size > end:
                break
            first, payload, at = data[at], data[begins : begins + size], begins + size
            if first & _COMPRESSED:
                assert self._inflater is not None, "a compressed frame that was not agreed on"
                payload = self._inflater.decompress(payload + _END_OF_BLOCK)
            yield first & 0xF, payload
        self._rest = data[at:]
