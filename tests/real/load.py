"""Load on the gate while something happens to it: no request may fail."""

import asyncio
import re
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from clients import Clients


class Load:
    """Asks for one small page over and over, on kept and on new HTTP/1.1 connections, and by h2load over HTTP/2."""

    def __init__(self, clients: Clients, path: str) -> None:
        self._clients, self._path = clients, path
        self._over = threading.Event()
        self.answers: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        async with self._clients.http(source="127.0.0.20") as kept:
            watches = [asyncio.create_task(self._ask(kept)) for _ in range(4)]
            watches += [asyncio.create_task(self._ask_on_new_connections())]
            watches += [asyncio.create_task(asyncio.to_thread(self._h2load))]
            try:
                yield self
            finally:
                self._over.set()
                await asyncio.gather(*watches)

    async def _ask(self, http: aiohttp.ClientSession) -> None:
        while not self._over.is_set():
            await self._count_one(http)

    async def _ask_on_new_connections(self) -> None:
        while not self._over.is_set():
            async with self._clients.http(source="127.0.0.21") as fresh:
                await self._count_one(fresh)

    async def _count_one(self, http: aiohttp.ClientSession) -> None:
        try:
            async with http.get(self._path) as answer:
                await answer.read()
                self.answers[f"{answer.status}"] += 1
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.answers[f"{type(error).__name__}: {error}"] += 1

    def _h2load(self) -> None:
        while not self._over.is_set():
            done = subprocess.run(
                ["h2load", "--requests=200", "--clients=4", "--max-concurrent-streams=4",
                 f"--connect-to=127.0.0.1:{self._clients.port}", self._clients.url + self._path],
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
            succeeded, failed, errored = map(int, counts.groups())
            self.answers["200"] += succeeded
            if failed or errored:
                self.answers[f"h2load: {counts[0]}"] += failed + errored

    def failures(self) -> dict[str, int]:
        return {what: count for what, count in self.answers.items() if what != "200"}
