"""Text frames as bytes: what the library would write."""

import pytest
from websockets.frames import Frame, Opcode

from realtime.transport import _text


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_what_the_library_would_write(length: int) -> None:
    for text in ("x" * length, "é" * (length // 2) + "x" * (length % 2)):
        assert _text(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
