"""asyncio clients that find the gate's host names on loopback and may come from any 127.0.0.0/8 address."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver
from websockets.asyncio.client import ClientConnection, connect


class _Loopback(AbstractResolver):
    """Every name is 127.0.0.1."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[dict]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


@dataclass(frozen=True)
class Clients:
    """Clients of one host behind one gate."""

    url: str
    port: int
    tls: ssl.SSLContext

    def http(self, source: str = "127.0.0.1", connections: int = 100, token: str | None = None) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(resolver=_Loopback(), ssl=self.tls, local_addr=(source, 0), limit=connections)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return aiohttp.ClientSession(self.url, connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=60))

    @asynccontextmanager
    async def websocket(
        self, path: str = "/api/websocket", source: str = "127.0.0.1", compressed: bool = False,
        headers: list[tuple[str, str]] = (),
    ) -> AsyncIterator[ClientConnection]:  # fmt: skip
        """A WebSocket that sends nothing by itself but the answers to pings and close frames."""
        async with connect(
            self.url.replace("https:", "wss:") + path, host="::1" if ":" in source else "127.0.0.1", port=self.port,
            ssl=self.tls, compression="deflate" if compressed else None, additional_headers=list(headers),
            local_addr=(source, 0), proxy=None, max_size=None, ping_interval=None, open_timeout=20,
        ) as websocket:  # fmt: skip
            yield websocket
