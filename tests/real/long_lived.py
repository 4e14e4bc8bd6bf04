"""Connections that must outlive silence. They begin with the session and are watched beside all other tests."""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass

import aiohttp

from clients import Clients
from websocket_api import logged_in

STREAM_SECONDS = 70
SILENT_SECONDS = 130


@dataclass(frozen=True)
class EventStream:
    """What `/api/stream` said in its time: seconds since the start and the line."""

    content_type: str
    lines: list[tuple[float, str]]


class LongLived:
    """Two watches on a thread of their own; each future holds what was seen, or why it failed."""

    def __init__(self, clients: Clients, token: str) -> None:
        self._clients, self._token = clients, token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.event_stream: Future[EventStream] = self._begin(self._watch_event_stream())
        self.silent_websocket: Future[bool] = self._begin(self._watch_silent_websocket(compressed=False))
        self.silent_compressed_websocket: Future[bool] = self._begin(self._watch_silent_websocket(compressed=True))

    def _begin(self, watch) -> Future:
        return asyncio.run_coroutine_threadsafe(watch, self._loop)

    async def _watch_event_stream(self) -> EventStream:
        """Nothing is fired meanwhile, so what comes is Home Assistant's ping at once and after 50 s."""
        lines: list[tuple[float, str]] = []
        async with self._clients.http(token=self._token) as http:
            begun = self._loop.time()
            async with http.get("/api/stream?restrict=nobody_fires_this", timeout=aiohttp.ClientTimeout()) as answer:
                assert answer.status == 200, answer.status
                try:
                    async with asyncio.timeout_at(begun + STREAM_SECONDS):
                        async for line in answer.content:
                            if line.strip():
                                lines.append((self._loop.time() - begun, line.decode().strip()))
                    raise AssertionError(f"the stream ended after {self._loop.time() - begun:.0f} s")
                except TimeoutError:
                    pass
                async with http.post("/api/events/nobody_fires_this", json={"after": STREAM_SECONDS}):
                    pass
                async with asyncio.timeout(10):
                    async for line in answer.content:
                        if b"nobody_fires_this" in line:
                            lines.append((self._loop.time() - begun, line.decode().strip()))
                            break
                return EventStream(answer.content_type, lines)

    async def _watch_silent_websocket(self, compressed: bool) -> bool:
        """Says nothing but the pongs to Home Assistant's pings; then the socket must still work."""
        async with logged_in(self._clients, self._token, compressed=compressed) as api:
            await asyncio.sleep(SILENT_SECONDS)
            await api.ping()
            return True

    def stop(self) -> None:
        async def cancel_all() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._begin(cancel_all()).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
