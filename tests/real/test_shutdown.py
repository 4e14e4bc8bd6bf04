"""SIGTERM: what is under way ends in order, and the process ends in time."""

import asyncio
import signal
import time
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from clients import Clients
from conftest import ECHO_HOST
from gate import Gate
from home_assistant import HomeAssistant
from websocket_api import HomeAssistantSocket, logged_in

_DRAIN_SECONDS = 10


async def _close_code(api: HomeAssistantSocket) -> int | None:
    """The code of the close frame that came, if one came."""
    with pytest.raises(ConnectionClosed) as closed:
        await api.receive(_DRAIN_SECONDS + 5)
    return closed.value.rcvd and closed.value.rcvd.code


async def test_websockets_are_told_requests_finish_and_the_process_ends(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], hosts: dict, home_assistant: HomeAssistant
) -> None:
    gate = start_gate(hosts, timeouts={"drain": f"{_DRAIN_SECONDS}s"})
    clients, token = clients_of(gate), home_assistant.token
    async with (
        logged_in(clients, token) as plain,
        logged_in(clients, token, compressed=True) as compressed,
        clients_of(gate, ECHO_HOST).http() as http,
    ):
        in_flight = asyncio.create_task(http.get("/?delay=2"))
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        gate.signal(signal.SIGTERM)
        assert await asyncio.gather(_close_code(plain), _close_code(compressed)) == [1001, 1001]
        async with await in_flight as answer:
            assert answer.status == 200
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", gate.https_port)
    assert await asyncio.to_thread(gate.wait, _DRAIN_SECONDS + 10) == 0
    assert time.monotonic() - begun < _DRAIN_SECONDS + 5


async def test_an_endless_answer_does_not_hold_the_process_past_its_deadline(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], hosts: dict, home_assistant: HomeAssistant
) -> None:
    gate = start_gate(hosts, timeouts={"drain": "3s"})
    async with clients_of(gate).http(token=home_assistant.token) as http, http.get("/api/stream") as stream:
        assert stream.status == 200
        gate.signal(signal.SIGTERM)
        assert await asyncio.to_thread(gate.wait, 13) == 0
