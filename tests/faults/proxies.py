"""TCP proxies that do to a connection what networks do: swallow what passes, or, knowing Redis' protocol, lose, double,
delay and reorder what subscribers are told."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread


class Swallower:
    """Forwards to a port until told to swallow: then both sides' connections stay open, and nothing arrives."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._passes = asyncio.Event()
        self._passes.set()
        self._server: asyncio.Server | None = None
        self._pairs: set[asyncio.Task[None]] = set()

    async def start(self) -> "Swallower":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def swallow(self) -> None:
        """From now on nothing passes on the connections that there are; new ones are forwarded."""
        self._passes.clear()
        self._passes = asyncio.Event()
        self._passes.set()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for pair in list(self._pairs):
            pair.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        passes = self._passes
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
                try:
                    await asyncio.gather(self._forward(reader, back, passes), self._forward(there, writer, passes))
                finally:
                    back.transport.abort()
        except asyncio.CancelledError:
            pass  # asyncio's streams would complain of a handler that was cancelled
        finally:
            writer.transport.abort()
            self._pairs.discard(task)

    @staticmethod
    async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        while data := await source.read(65536):
            await passes.wait()
            sink.write(data)
            await sink.drain()
        sink.close()


@dataclass(frozen=True, slots=True)
class Weather:
    """What becomes of a hint on its way to each process: the shares that are lost, doubled and late, and by how much
    late ones are at most. Late ones are overtaken by others."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_s: float = 0.0


FAIR = Weather()


class HintWeather:
    """Stands before a Valkey, in a thread of its own. Only what is published reaches a subscriber by the weather;
    everything else passes as it is."""

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self.port = 0
        self.weather = FAIR
        self.seen = 0
        """Hints that passed."""
        self._target_port = target_port
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="weather", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def fair(self) -> None:
        """From now on everything arrives, once and in order; what is late still comes."""
        self.weather = FAIR

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
                try:
                    both = [
                        asyncio.ensure_future(self._commands(reader, back)),
                        asyncio.ensure_future(self._replies(there, writer)),
                    ]
                    # Either side's end is the end of both, as it would be without us.
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    for one in both:
                        one.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
                finally:
                    back.transport.abort()
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    @staticmethod
    async def _commands(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()

    async def _replies(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        buffered = b""
        while data := await source.read(65536):
            if self.weather == FAIR and not buffered:
                # Only a subscriber's connection carries pushes; those of others need not be looked at. What ends in
                # the middle of a reply is kept, so that the weather may change at any moment.
                whole, buffered = _split_whole(data)
                self.seen += data.count(_PUSHED)
                sink.write(whole)
            else:
                whole, buffered = _split_whole(buffered + data)
                for reply in _replies_in(whole):
                    self._deliver(reply, sink)
            await sink.drain()

    def _deliver(self, reply: bytes, sink: asyncio.StreamWriter) -> None:
        weather, dice = self.weather, self._dice
        if not reply[1:].partition(b"\r\n")[2].startswith(_PUSHED):
            sink.write(reply)
            return
        self.seen += 1
        if dice.random() < weather.lost:
            return
        copies = 1 + (dice.random() < weather.doubled)
        for _ in range(copies):
            if dice.random() < weather.late:
                self._loop.call_later(dice.uniform(0, weather.late_s), self._deliver_late, reply, sink)
            else:
                sink.write(reply)

    @staticmethod
    def _deliver_late(reply: bytes, sink: asyncio.StreamWriter) -> None:
        if not sink.is_closing():
            sink.write(reply)


_PUSHED = b"$7\r\nmessage\r\n"


def _split_whole(data: bytes) -> tuple[bytes, bytes]:
    """The replies that are complete, and the beginning of the one that is not."""
    end = 0
    while (after := _end_of_reply(data, end)) is not None:
        end = after
    return data[:end], data[end:]


def _replies_in(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = _end_of_reply(data, start)
        assert end is not None
        yield data[start:end]
        start = end


def _end_of_reply(data: bytes, start: int) -> int | None:
    """Where the reply that begins at `start` ends; None if that is not here yet. RESP 2 and 3:
    https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    line_end = data.find(b"\r\n", start)
    if start >= len(data) or line_end < 0:
        return None
    kind, rest, at = data[start : start + 1], data[start + 1 : line_end], line_end + 2
    if kind in b"$=!":
        length = int(rest)
        after = at if length < 0 else at + length + 2
        return after if after <= len(data) else None
    if kind in b"*~>%|":
        count = max(int(rest), 0) * (2 if kind in b"%|" else 1)
        # An attribute (`|`) stands before the reply that it belongs to.
        for _ in range(count + (kind == b"|")):
            end = _end_of_reply(data, at)
            if end is None:
                return None
            at = end
    return at
