"""Home Assistant's WebSocket API: authentication, commands by number, events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection

from clients import Clients


class HomeAssistantSocket:
    """An authenticated connection. One reader at a time: what `result` passes over waits for `event`."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._number = 0
        self._passed_over: list[dict] = []

    async def authenticate(self, token: str) -> None:
        assert (await self.receive())["type"] == "auth_required"
        await self.websocket.send(json.dumps({"type": "auth", "access_token": token}))
        assert (await self.receive())["type"] == "auth_ok"

    async def send(self, **message: object) -> int:
        """Sends one command and returns its number."""
        self._number += 1
        await self.websocket.send(json.dumps({"id": self._number, **message}))
        return self._number

    async def receive(self, seconds: float = 20) -> dict:
        async with asyncio.timeout(seconds):
            return json.loads(await self.websocket.recv())

    async def result(self, **message: object) -> object:
        """Sends one command and waits for what it results in."""
        number = await self.send(**message)
        while True:
            answer = await self.receive()
            if answer["id"] == number and answer["type"] in ("result", "pong"):
                assert answer.get("success", True), answer
                return answer.get("result")
            self._passed_over.append(answer)

    async def ping(self) -> None:
        await self.result(type="ping")

    async def event(self, seconds: float = 20) -> dict:
        """The next event of any subscription."""
        answer = self._passed_over.pop(0) if self._passed_over else await self.receive(seconds)
        assert answer["type"] == "event", answer
        return answer["event"]


@asynccontextmanager
async def logged_in(clients: Clients, token: str, **options: object) -> AsyncIterator[HomeAssistantSocket]:
    async with clients.websocket(**options) as websocket:
        api = HomeAssistantSocket(websocket)
        await api.authenticate(token)
        yield api
