"""A pooler before PostgreSQL, as small as it can be: it lends sessions to clients, for a transaction or for good.

It stands for pgbouncer where that is not installed, and does what matters here: it answers a client before it has a
session for it, refuses parameters that it does not know, and gives the session last used to whoever asks next.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

Mode = Literal["session", "transaction"]

KNOWN = {"user", "database", "client_encoding", "application_name"}
NO_TLS, TLS_WANTED, CANCEL = b"N", 80877103, 80877102
IDLE = b"Z\0\0\0\x05I"


class Server:
    """One session of PostgreSQL, already past its greeting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.parameters = b""

    @classmethod
    async def connect(cls, socket: Path, startup: bytes) -> Server:
        server = cls(*await asyncio.open_unix_connection(str(socket)))
        try:
            await server._greet(startup)
        except BaseException:
            server.writer.close()
            raise
        return server

    async def _greet(self, startup: bytes) -> None:
        self.writer.write(struct.pack("!I", len(startup) + 4) + startup)
        while (message := await read(self.reader))[0:1] != b"Z":
            assert message[0:1] != b"E", message
            if message[0:1] == b"S":
                self.parameters += message


class Client:
    """One client and, while it has one, the session that is lent to it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.server: Server | None = None
        self.pump: asyncio.Task[None] | None = None
        self.asked = 0  # queries and syncs that are not answered yet


class Pooler:
    """Listens on a free port of this machine; `most` server sessions at a time."""

    def __init__(self, socket: Path, mode: Mode, most: int) -> None:
        self._socket, self._mode = socket, mode
        self._idle: list[Server] = []
        self._room = asyncio.Semaphore(most)
        self._clients: set[asyncio.Task[None]] = set()
        self._parameters = b""

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = Client(writer)
        try:
            await self._serve(reader, client)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it has gone, or this pooler ends
        finally:
            self._clients.discard(task)
            if client.pump is not None:
                client.pump.cancel()
            if client.server is not None:  # in the middle of a transaction, or for good: its state is the client's
                client.server.writer.close()
                self._room.release()
            writer.close()

    async def end(self) -> None:
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for server in self._idle:
            server.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, client: Client) -> None:
        startup = await self._greeted(reader, client.writer)
        if startup is None:
            return
        greeting = await self._greeting(startup)
        key = struct.pack("!cII4s", b"K", 12, 0x7EADBEEF, os.urandom(4))
        client.writer.write(b"R\0\0\0\x08\0\0\0\0" + greeting + key + IDLE)
        while (message := await read(reader))[0:1] != b"X":
            if client.server is None:
                client.server = await self._borrow(startup)
                client.pump = asyncio.create_task(self._answer(client, client.server))
            client.asked += message[0:1] in (b"Q", b"S")
            client.server.writer.write(message)

    async def _answer(self, client: Client, server: Server) -> None:
        """Hand over what the server says, until the session is no longer the client's."""
        while True:
            answer = await read(server.reader)
            client.writer.write(answer)
            client.asked -= answer[0:1] == b"Z"
            if answer == IDLE and not client.asked and self._mode == "transaction":
                client.server = None
                self._give_back(server)
                return

    async def _greeting(self, startup: bytes) -> bytes:
        """What the server says of itself; asked once, so that a client is answered when no session is free."""
        if not self._parameters:
            server = await self._borrow(startup)
            self._parameters = server.parameters
            self._give_back(server)
        return self._parameters

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """Return what a client sends first; None for one that is refused."""
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            startup = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!I", startup[:4])
            if code == CANCEL:
                return None
            if code != TLS_WANTED:
                break
            writer.write(NO_TLS)
        words = [word.decode() for word in startup[4:].split(b"\0")]
        unknown = set(words[0::2]) - KNOWN - {""}
        if unknown:
            told = f"unsupported startup parameter: {sorted(unknown)[0]}"
            fields = b"SFATAL\0C08P01\0M" + told.encode() + b"\0\0"
            writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
            await writer.drain()
            return None
        return startup

    async def _borrow(self, startup: bytes) -> Server:
        await self._room.acquire()
        return self._idle.pop() if self._idle else await Server.connect(self._socket, startup)

    def _give_back(self, server: Server) -> None:
        self._idle.append(server)
        self._room.release()


async def read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


@asynccontextmanager
async def pooled(socket: Path, mode: Mode, most: int = 20) -> AsyncIterator[int]:
    """Run a pooler before the server with that socket, and yield its port."""
    pooler = Pooler(socket, mode, most)
    async with await asyncio.start_server(pooler.client, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        listening.close()
        await pooler.end()
