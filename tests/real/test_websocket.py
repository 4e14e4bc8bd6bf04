"""Home Assistant's WebSocket API, with and without permessage-deflate."""

import asyncio
import json

import pytest
from websockets.exceptions import ConnectionClosed

from clients import Clients
from home_assistant import HomeAssistant
from websocket_api import HomeAssistantSocket, logged_in

both_ways = pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflate"])


@both_ways
async def test_200_events_and_200_pings_arrive_in_order(
    clients: Clients, home_assistant: HomeAssistant, compressed: bool
) -> None:
    async with logged_in(clients, home_assistant.token, compressed=compressed) as api:
        assert bool(api.websocket.protocol.extensions) == compressed
        await api.result(type="subscribe_events", event_type="counted")
        async with clients.http(token=home_assistant.token) as http:
            for number in range(200):
                async with http.post("/api/events/counted", json={"number": number}) as answer:
                    assert answer.status == 200
        for number in range(200):
            assert (await api.event())["data"] == {"number": number}
        for _ in range(200):
            await api.ping()


@both_ways
async def test_a_megabyte_goes_in_and_comes_back_in_one_message(
    clients: Clients, home_assistant: HomeAssistant, compressed: bool
) -> None:
    text = "".join(f"{number:08x}" for number in range(190_000))
    async with logged_in(clients, home_assistant.token, compressed=compressed) as api:
        await api.result(type="subscribe_events", event_type="large")
        await api.send(type="fire_event", event_type="large", event_data={"text": text})
        received = [await api.receive(), await api.receive()]
        event = next(message["event"] for message in received if message["type"] == "event")
        assert event["data"]["text"] == text
        await api.ping()


async def test_a_result_of_more_than_a_mebibyte_arrives_whole(clients: Clients, home_assistant: HomeAssistant) -> None:
    async with clients.http(token=home_assistant.token) as http:
        large = {"state": "on", "attributes": {"text": "x" * 1_500_000}}
        async with http.post("/api/states/sensor.large", json=large) as answer:
            assert answer.status in (200, 201)
        async with logged_in(clients, home_assistant.token) as api:
            states = await api.result(type="get_states")
            assert len(json.dumps(states)) > 1 << 20
            found = next(state for state in states if state["entity_id"] == "sensor.large")
            assert found["attributes"] == large["attributes"]
        async with http.delete("/api/states/sensor.large") as answer:
            assert answer.status == 200


@both_ways
async def test_a_bad_token_is_told_and_the_socket_closed(clients: Clients, compressed: bool) -> None:
    async with clients.websocket(compressed=compressed) as websocket:
        api = HomeAssistantSocket(websocket)
        assert (await api.receive())["type"] == "auth_required"
        await websocket.send(json.dumps({"type": "auth", "access_token": "bad"}))
        assert (await api.receive())["type"] == "auth_invalid"
        with pytest.raises(ConnectionClosed) as closed:
            await api.receive()
        assert closed.value.rcvd.code == 1000


@both_ways
async def test_auth_may_be_sent_before_it_is_asked_for(
    clients: Clients, home_assistant: HomeAssistant, compressed: bool
) -> None:
    """The browser's frontend sends it as soon as the socket is open."""
    async with clients.websocket(compressed=compressed) as websocket:
        await websocket.send(json.dumps({"type": "auth", "access_token": home_assistant.token}))
        api = HomeAssistantSocket(websocket)
        assert (await api.receive())["type"] == "auth_required"
        assert (await api.receive())["type"] == "auth_ok"
        await api.ping()


async def test_auth_may_come_in_fragments(clients: Clients, home_assistant: HomeAssistant) -> None:
    async with clients.websocket() as websocket:
        message = json.dumps({"type": "auth", "access_token": home_assistant.token})
        await websocket.send([message[:10], message[10:40], message[40:]])
        api = HomeAssistantSocket(websocket)
        assert [(await api.receive())["type"], (await api.receive())["type"]] == ["auth_required", "auth_ok"]


async def test_the_upgrade_does_not_name_the_upstream(clients: Clients) -> None:
    async with clients.websocket() as websocket:
        assert "aiohttp" not in websocket.response.headers.get("Server", "")


async def test_a_revoked_token_closes_its_socket(clients: Clients, home_assistant: HomeAssistant) -> None:
    async with logged_in(clients, home_assistant.token) as owner:
        token = await owner.result(type="auth/long_lived_access_token", lifespan=1, client_name="to be revoked")
        async with logged_in(clients, token) as api:
            known = await owner.result(type="auth/refresh_tokens")
            doomed = next(entry["id"] for entry in known if entry.get("client_name") == "to be revoked")
            await owner.result(type="auth/delete_refresh_token", refresh_token_id=doomed)
            async with asyncio.timeout(10):
                await api.websocket.wait_closed()
