"""Logging in, and what the tokens are good for."""

from clients import Clients
from conftest import HOST
from gate import Gate
from home_assistant import HomeAssistant
from login import Login


async def _status_with(clients: Clients, token: str) -> int:
    async with clients.http(token=token) as http, http.get("/api/") as answer:
        return answer.status


async def test_a_whole_login_with_a_wrong_password_first(
    clients: Clients, gate: Gate, home_assistant: HomeAssistant
) -> None:
    async with clients.http() as http:
        login = Login(http, gate.url(HOST) + "/")
        begun = await login.begin()
        assert (begun["type"], begun["step_id"], begun["errors"]) == ("form", "init", {})

        refused = await login.answer(home_assistant.user, "wrong")
        assert (refused["type"], refused["errors"]) == ("form", {"base": "invalid_auth"})

        accepted = await login.answer(home_assistant.user, home_assistant.password)
        assert accepted["type"] == "create_entry"

        status, tokens = await login.token(grant_type="authorization_code", code=accepted["result"])
        assert (status, tokens["token_type"], tokens["ha_auth_provider"]) == (200, "Bearer", "homeassistant")
        assert await _status_with(clients, tokens["access_token"]) == 200

        status, used_again = await login.token(grant_type="authorization_code", code=accepted["result"])
        assert (status, used_again["error"]) == (400, "invalid_request")


async def test_a_token_is_refreshed_until_it_is_revoked(clients: Clients, gate: Gate, home_assistant: HomeAssistant) -> None:
    async with clients.http() as http:
        login = Login(http, gate.url(HOST) + "/")
        await login.begin()
        accepted = await login.answer(home_assistant.user, home_assistant.password)
        _, tokens = await login.token(grant_type="authorization_code", code=accepted["result"])
        refresh_token = tokens["refresh_token"]

        status, refreshed = await login.token(grant_type="refresh_token", refresh_token=refresh_token)
        assert (status, refreshed["expires_in"]) == (200, 1800)
        assert await _status_with(clients, refreshed["access_token"]) == 200

        assert await login.revoke(refresh_token) == 200
        status, refused = await login.token(grant_type="refresh_token", refresh_token=refresh_token)
        assert (status, refused) == (400, {"error": "invalid_grant"})
        assert await _status_with(clients, refreshed["access_token"]) == 401
