"""Nobody guesses their way in, and nobody who lives there is locked out."""

import asyncio
import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from authority import Authority
from clients import Clients
from conftest import HOST
from curl import Curl
from gate import NO_RATE_LIMITS, Gate
from home_assistant import HomeAssistant
from household import Household
from http2_client import http2_client
from login import Login
from outsider import Outsider, fresh_address, fresh_local_address, fresh_secret
from recorder import Recorder
from waiting import wait_for
from websocket_api import HomeAssistantSocket, logged_in

_MAX_FAILURES = 10
_REPEATS = 3
_BURST = 200
_BURST_OF_STALE = 500
# The rate limits would end each of these stories before the guard's other parts come to it.
_STRICT = {"never_ban": [], **NO_RATE_LIMITS}


@pytest.fixture(scope="module")
def gate(start_shared_gate: Callable[..., Gate], hosts: dict) -> Gate:
    """May ban clients of this machine. Each story has addresses of its own."""
    limits = {"http2_streams": 2 * _BURST}
    return start_shared_gate("guard", hosts, guard=_STRICT, limits=limits)


@pytest.fixture(scope="module")
def clients(gate: Gate, clients_of: Callable[..., Clients]) -> Clients:
    return clients_of(gate)


@pytest.fixture(scope="module")
def curl(gate: Gate, curl_of: Callable[..., Curl]) -> Curl:
    return curl_of(gate)


@pytest.fixture(scope="module")
def application(gate: Gate) -> str:
    return gate.url(HOST) + "/"


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    return authority.context()


def _is_cut_off(gate: Gate, source: str) -> bool:
    """Whether a connection is closed before a word was said on it."""
    with socket.create_connection(("127.0.0.1", gate.https_port), timeout=20, source_address=(source, 0)) as tcp:
        tcp.settimeout(0.5)
        try:
            return tcp.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


def _banned(gate: Gate) -> set[str]:
    return {ban["network"] for ban in json.loads(gate.bans("list", "--json"))["bans"]}


# ---------------------------------------------------------------- a burst
async def _burst_over_connections(clients: Clients, application: str, source: str) -> Counter[object]:
    async def guess(http: aiohttp.ClientSession, flow: str) -> object:
        body = {"client_id": application, "username": "burst-1", "password": fresh_secret()}
        try:
            async with http.post(f"/auth/login_flow/{flow}", json=body) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, OSError) as error:
            return type(error).__name__

    async with clients.http(source=source, connections=_BURST) as http:
        flows = await asyncio.gather(*(_begin(http, application) for _ in range(_BURST)))
        return Counter(await asyncio.gather(*(guess(http, flow) for flow in flows)))


async def _begin(http: aiohttp.ClientSession, application: str) -> str:
    return (await Login(http, application).begin())["flow_id"]


def _burst_over_streams(gate: Gate, tls: ssl.SSLContext, application: str, source: str) -> Counter[object]:
    start = {"client_id": application, "handler": ["homeassistant", None], "redirect_uri": application}
    with http2_client(HOST, gate.https_port, tls, source) as http:
        begun = http.post_all([("/auth/login_flow", json.dumps(start).encode())] * _BURST)
        flows = [json.loads(answer.body)["flow_id"] for answer in begun]
        body = {"client_id": application, "username": "burst-2"}
        guesses = [(f"/auth/login_flow/{flow}", json.dumps(body | {"password": fresh_secret()}).encode()) for flow in flows]
        return Counter(answer.status for answer in http.post_all(guesses))


async def _burst_over_websockets(clients: Clients, source: str) -> Counter[object]:
    async def guess(websocket: ClientConnection) -> object:
        try:
            await websocket.send(json.dumps({"type": "auth", "access_token": fresh_secret()}))
            return json.loads(await websocket.recv())["type"]
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code

    async with AsyncExitStack() as stack:
        opening = (clients.websocket(source=source, compressed=number % 2 == 0) for number in range(_BURST))
        sockets = await asyncio.gather(*(stack.enter_async_context(websocket) for websocket in opening))
        for websocket in sockets:
            assert "auth_required" in await websocket.recv()
        return Counter(await asyncio.gather(*(guess(websocket) for websocket in sockets)))


@pytest.mark.parametrize("over", ["connections", "streams", "WebSockets"])
def test_of_200_guesses_at_once_home_assistant_sees_as_many_as_of_200_in_turn(
    gate: Gate, clients: Clients, curl: Curl, tls: ssl.SSLContext, home_assistant: HomeAssistant, application: str,
    over: str, record_figure: Callable[[str, object], None],
) -> None:  # fmt: skip
    source = fresh_local_address()
    if over == "connections":
        answers = asyncio.run(_burst_over_connections(clients, application, source))
    elif over == "streams":
        answers = _burst_over_streams(gate, tls, application, source)
    else:
        answers = asyncio.run(_burst_over_websockets(clients, source))
    seen = home_assistant.failures_of(source)
    record_figure(f"a burst of {_BURST} guesses over {over}", f"{seen} reached Home Assistant; {dict(answers)}")
    assert answers.total() == _BURST
    assert 1 <= seen <= _MAX_FAILURES

    # In flight they count as failures, so that some may have been sent away; whoever goes on is banned.
    guesser = Outsider(curl, application, source)
    for _ in range(_MAX_FAILURES):
        guesser.attempt("/auth/token", "--data", f"grant_type=refresh_token&refresh_token={fresh_secret(128)}")
    wait_for("the guesser is cut off", lambda: _is_cut_off(gate, source))
    assert home_assistant.failures_of(source) <= _MAX_FAILURES
    assert f"{source}/32" in _banned(gate)
    neighbour = fresh_local_address()
    assert not _is_cut_off(gate, neighbour)
    assert curl("/manifest.json", source=neighbour).status == 200


# ---------------------------------------------------------------- a token that is not good any more
@pytest.mark.parametrize("was_known", [False, True], ids=["never seen good", "seen good once"])
@pytest.mark.parametrize("kind", ["refresh token", "access token", "WebSocket"])
async def test_a_stale_token_sent_500_times_bans_nobody_and_hardly_reaches_home_assistant(
    gate: Gate, clients: Clients, household: Household, home_assistant: HomeAssistant, application: str, kind: str,
    was_known: bool,
) -> None:  # fmt: skip
    source = fresh_local_address()
    tokens = await asyncio.to_thread(household.tokens, application)
    token = tokens["refresh_token" if kind == "refresh token" else "access_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": application}

    async def send(http: aiohttp.ClientSession) -> object:
        if kind == "refresh token":
            async with http.post("/auth/token", data=form) as answer:
                assert answer.status == 200 or await answer.json() == {"error": "invalid_grant"}
                return answer.status
        if kind == "access token":
            async with http.get("/api/states", headers={"Authorization": f"Bearer {token}"}) as answer:
                return answer.status
        async with clients.websocket(source=source) as websocket:
            await websocket.send(json.dumps({"type": "auth", "access_token": token}))
            while (said := json.loads(await websocket.recv())["type"]) == "auth_required":
                pass
            return said

    async with clients.http(source=source) as http:
        if was_known:
            assert await send(http) in (200, "auth_ok")
        await asyncio.to_thread(household.revoke, tokens["refresh_token"])
        # In turn until Home Assistant has said it often enough; more at once than `max_failures` would have to wait.
        answers = Counter([await send(http) for _ in range(_REPEATS)])
        for _ in range((_BURST_OF_STALE - _REPEATS) // 7):
            answers.update(await asyncio.gather(*(send(http) for _ in range(7))))
    # The gate says it in Home Assistant's words, by which apps and browsers know that they are signed out.
    assert set(answers) == {{"refresh token": 400, "access token": 401, "WebSocket": "auth_invalid"}[kind]}, answers
    assert await asyncio.to_thread(home_assistant.failures_of, source) <= _REPEATS
    assert _banned(gate).isdisjoint({f"{source}/32"})
    assert gate.explain(source)["failures"]["count"] <= 1
    # Its owner can still log in from there.
    async with clients.http(source=source) as http:
        login = Login(http, application)
        await login.begin()
        assert (await login.answer(household.guest, household.password))["type"] == "create_entry"


async def test_a_household_goes_on_while_one_of_them_mistypes(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], hosts: dict, household: Household
) -> None:
    """Six behind one address, guarded as by default but for `never_ban`."""
    gate = start_gate(hosts, guard={"never_ban": []})
    clients, application, source = clients_of(gate), gate.url(HOST) + "/", fresh_local_address()
    others = [(await asyncio.to_thread(household.tokens, application))["access_token"] for _ in range(5)]

    async def go_on(token: str, over: asyncio.Event) -> int:
        rounds = 0
        async with clients.http(source=source, token=token) as http, logged_in(clients, token, source=source) as api:
            while not over.is_set() or rounds < 3:
                async with http.get("/api/states") as answer:
                    assert answer.status == 200
                await api.ping()
                rounds += 1
                await asyncio.sleep(0.05)
        return rounds

    over = asyncio.Event()
    going_on = [asyncio.create_task(go_on(token, over)) for token in others]
    async with clients.http(source=source) as http:
        login = Login(http, application)
        await login.begin()
        for _ in range(4):
            assert (await login.answer(household.guest, fresh_secret(8)))["errors"] == {"base": "invalid_auth"}
        accepted = await login.answer(household.guest, household.password)
        status, tokens = await login.token(grant_type="authorization_code", code=accepted["result"])
        assert status == 200
    over.set()
    await asyncio.gather(*going_on, go_on(tokens["access_token"], over))
    assert "hearthgate_guard_refusals_total{" not in gate.metrics()
    assert _banned(gate) == set()


# ---------------------------------------------------------------- known devices
def _guess_until_banned(gate: Gate, stranger: Outsider) -> None:
    for _ in range(_MAX_FAILURES):
        answer = stranger.refresh(fresh_secret(128))
        assert answer.status == 400, answer.body
    wait_for("the ban", lambda: f"{stranger.address}/32" in _banned(gate))


async def _websocket_says(clients: Clients, source: str, token: str) -> str | None:
    """The type of the verdict, none if the socket was closed without one."""
    try:
        async with clients.websocket(source=source) as websocket:
            await websocket.send(json.dumps({"type": "auth", "access_token": token}))
            while (said := json.loads(await websocket.recv())["type"]) == "auth_required":
                pass
            return said
    except (ConnectionClosed, ConnectionError, InvalidStatus):
        return None


async def test_a_known_device_goes_on_behind_a_banned_address_until_it_is_revoked(
    gate: Gate, clients: Clients, curl: Curl, household: Household, application: str
) -> None:
    source = fresh_local_address()
    stranger = Outsider(curl, application, source)
    async with clients.http(source=source) as browser:
        login = Login(browser, application)
        await login.begin()
        accepted = await login.answer(household.guest, household.password)
        _, tokens = await login.token(grant_type="authorization_code", code=accepted["result"])
        bearer, refresh = tokens["access_token"], tokens["refresh_token"]
        await asyncio.to_thread(_guess_until_banned, gate, stranger)

        async def status(path: str, token: str, method: str = "GET") -> int:
            """403 also where the connection is closed, once nobody known is left behind the banned address."""
            body = None if method == "GET" else {}
            try:
                async with (
                    clients.http(source=source, token=token) as fresh,
                    fresh.request(method, path, json=body) as answer,
                ):
                    return answer.status
            except (aiohttp.ClientConnectionError, ConnectionError):
                return 403

        assert await status("/api/states", bearer) == 200
        assert await status("/api/services/nobody/knows", bearer, "POST") == 400  # Home Assistant's own
        async with clients.http(source=source) as fresh:
            refreshed, more = await Login(fresh, application).token(grant_type="refresh_token", refresh_token=refresh)
        assert refreshed == 200
        assert await status("/api/states", more["access_token"]) == 200
        async with logged_in(clients, bearer, source=source) as api:
            await api.ping()
        # Views for administrators refuse it, which says nothing of its token.
        for _ in range(5):
            assert await status("/api/error_log", bearer) == 401
            assert await status("/api/states", bearer) == 200
        # The browser is known by its cookie, too: it may log in once more.
        assert (await Login(browser, application).begin())["type"] == "form"

        # The stranger is refused all the while.
        assert stranger.refresh(fresh_secret(128)).status == 429  # 403 would sign an app out
        assert stranger.post_json("/auth/login_flow", stranger.beginning()).status == 403
        assert await status("/api/states", fresh_secret()) == 403
        assert await _websocket_says(clients, source, fresh_secret()) is None

        # Signed out in Home Assistant: the next answer says so, and then it is a stranger.
        await asyncio.to_thread(household.revoke, refresh)
        assert await status("/api/states", bearer) in (401, 403)
        async with asyncio.timeout(5):
            while await status("/api/states", bearer) != 403:
                pass
        assert await status("/api/states", more["access_token"]) == 403
        assert await _websocket_says(clients, source, bearer) is None
        with pytest.raises((AssertionError, aiohttp.ClientConnectionError)):
            await Login(browser, application).begin()


# ---------------------------------------------------------------- what strangers reach
_EXPLOITS = {
    "CVE-2018-21019": ["/api/error_log"],
    "CVE-2021-3152": [
        "/hacsfiles/../../configuration.yaml", "/hacsfiles/%2e%2e/%2e%2e/configuration.yaml",
        "/hacsfiles/..%2f..%2fconfiguration.yaml", "/hacsfiles/../../.storage/auth", "/local/../secrets.yaml",
        "/static/..%5c..%5c.storage/auth", "/hacsfiles/.%2e/.storage/auth", "/custom_component_files/../../.storage/auth",
    ],
    "CVE-2023-27482": [
        "/api/hassio/app/.%252e/supervisor/info", "/api/hassio/app/.%09./core/info",
        "/api/hassio_ingress/.%09./supervisor/info", "/api/hassio/app/../supervisor/info",
        "/api/hassio/app/%2e%2e/supervisor/info", "/api/hassio/app/entrypoint.js", "/api/hassio/supervisor/info",
        "/api/hassio_ingress/token/", "/api/hassio/backups/new/upload",
    ],
    "CVE-2026-54317": ["/api/konnected/device/0123456789ab?zone=1"],
    "onboarding": ["/onboarding.html", "/api/onboarding", "/api/onboarding/users", "/api/onboarding/installation_type",
                   "/api/onboarding/backup/info", "/api/onboarding/cloud/status"],
    "what a session opens": ["/api/", "/api/states", "/api/config", "/api/backup/download/1", "/auth/login_flow/x/y",
                             "/api/prometheus", "/api/shelly/ws", "/media/local/film.mp4"],
}  # fmt: skip
_FAKE_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"
# What the gate asks of its own accord.
_OWN = {"GET /api/", "GET /manifest.json", "HEAD /manifest.json", "GET /"}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    upstream = Recorder()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def recording_gate(start_shared_gate: Callable[..., Gate], recorder: Recorder, host_entry: Callable[..., dict]) -> Gate:
    return start_shared_gate("surface", {HOST: host_entry(recorder.url, "home_assistant")})


@pytest.mark.parametrize("http", ["1.1", "2"], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("exploit", _EXPLOITS)
def test_a_stranger_reaches_nothing_that_no_login_needs(
    recording_gate: Gate, recorder: Recorder, curl_of: Callable[..., Curl], exploit: str, http: str
) -> None:
    curl = curl_of(recording_gate)
    disguises = {
        "bare": ("", []),
        "signed": (f"authSig={_FAKE_JWT}", []),
        "token": (f"token={fresh_secret()}", []),
        "bearer": ("", ["--header", f"Authorization: Bearer {_FAKE_JWT}"]),
        "cookie": ("", ["--header", f"Cookie: __Host-hearthgate={fresh_secret(64)}; ingress_session={fresh_secret(64)}"]),
        "administrator": ("", ["--header", "X-Hass-Is-Admin: 1", "--header", "X-Forwarded-For: 127.0.0.1"]),
        "posted": ("", ["--json", "{}"]),
    }
    for target in _EXPLOITS[exploit]:
        for name, (query, options) in disguises.items():
            outsider = Outsider(curl, "", fresh_local_address(), http)
            joined = f"{target}{'&' if '?' in target else '?'}{query}" if query else target
            # A signed medium is a capability by its shape: only Home Assistant knows whether it is good.
            if name == "signed" and target.startswith(("/media/", "/api/backup/download/")):
                continue
            _, answer = outsider.attempt(joined, *options)
            assert answer.status in (400, 401, 403, 404, 405), (joined, name, answer.status)
    assert set(recorder.requests) <= _OWN, set(recorder.requests) - _OWN


@pytest.mark.parametrize("target", _EXPLOITS["onboarding"])
def test_onboarding_is_refused_from_outside(recording_gate: Gate, curl_of: Callable[..., Curl], target: str) -> None:
    assert Outsider(curl_of(recording_gate), "", fresh_address()).ask(target).status == 403


async def test_the_calls_of_the_companion_apps_work(
    start_shared_gate: Callable[..., Gate], hosts: dict, clients_of: Callable[..., Clients], curl_of: Callable[..., Curl],
    household: Household, home_assistant: HomeAssistant,
) -> None:  # fmt: skip
    """Each from an address of its own, where nobody has proven anything, guarded as by default."""
    gate = start_shared_gate("companion", hosts)
    application = gate.url(HOST) + "/"
    (home_assistant.config_directory / "media" / "song.mp3").write_bytes(b"la la la")
    tokens, signed, camera = await asyncio.to_thread(
        lambda: (household.tokens(application), household.signed("/media/local/song.mp3"), household.camera_token())
    )

    def someone() -> Outsider:
        return Outsider(curl_of(gate), application, fresh_address(), "2")

    assert someone().ask("/api/webhook/gateway-test-hook", "--json", '{"type": "update_location"}').status == 200
    assert someone().refresh(tokens["refresh_token"]).status == 200
    async with logged_in(clients_of(gate), tokens["access_token"], source=fresh_local_address()) as api:
        await api.ping()
    assert someone().ask("/api/states", token=tokens["access_token"]).status == 200
    update = someone().ask("/api/states/sensor.phone", "--json", '{"state": "1"}', token=tokens["access_token"])
    assert update.status == 201
    picture = someone().ask(f"/api/camera_proxy/{home_assistant.camera[0]}?token={camera}")
    assert picture.status in (200, 500)  # 500: no picture has been pushed yet
    assert someone().ask(signed).body == b"la la la"
    assert someone().ask(signed, "--range", "0-1").status == 206
    for target in (f"/api/hls/{fresh_secret(64)}/master_playlist.m3u8", f"/api/tts_proxy/{fresh_secret()}.mp3"):
        # Home Assistant's own 404: the gate has refused nothing, as is seen below.
        assert someone().ask(target).status == 404
    for page in ("/?external_auth=1", "/lovelace?external_auth=1", "/auth/authorize", "/manifest.json"):
        assert someone().ask(page).status == 200, page
    assert "hearthgate_guard_refusals_total{" not in gate.metrics()


# ---------------------------------------------------------------- the operator
async def test_a_ban_of_the_operators_holds_at_once_and_over_a_restart(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], curl_of: Callable[..., Curl], hosts: dict,
    record_figure: Callable[[str, object], None],
) -> None:  # fmt: skip
    gate = start_gate(hosts, guard={"never_ban": []})
    clients, curl = clients_of(gate), curl_of(gate)
    source, neighbour = fresh_local_address(), "127.50.0.9"

    async def ended(reading) -> float:
        try:
            async with asyncio.timeout(20):
                while await reading():
                    pass
        except (ConnectionClosed, ConnectionError, ssl.SSLError):
            pass
        return time.monotonic()

    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gate.https_port, ssl=clients.tls, server_hostname=HOST, local_addr=(source, 0)
    )
    writer.write(f"GET /robots.txt HTTP/1.1\r\nHost: {HOST}:{gate.https_port}\r\n\r\n".encode())
    assert b" 200 " in (head := await reader.readuntil(b"\r\n\r\n"))
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
    async with clients.websocket(source=source) as websocket:
        assert "auth_required" in await websocket.recv()
        ends = [asyncio.create_task(ended(lambda: reader.read(1))), asyncio.create_task(ended(websocket.recv))]
        await asyncio.to_thread(gate.bans, "add", source, "--for", "1h", "--reason", "a test")
        answered = time.monotonic()
        late = [when - answered for when in await asyncio.gather(*ends)]
    writer.close()
    record_figure("open connection and WebSocket after `bans add` had answered, s", [f"{seconds:.3f}" for seconds in late])
    assert max(late) < 0.1

    def holds() -> bool:
        return _is_cut_off(gate, source) and not _is_cut_off(gate, neighbour)

    assert holds()
    listed = json.loads(gate.bans("list", "--json"))["bans"]
    assert [(ban["network"], ban["cause"], ban["reason"]) for ban in listed] == [(f"{source}/32", "operator", "a test")]
    assert f"{source} is banned" in gate.bans("explain", source)
    await asyncio.to_thread(gate.restart)
    assert holds()
    explained = gate.explain(source)
    assert 3500 < explained["ban"]["remaining_seconds"] <= 3600
    assert explained["standing"] == "unknown"
    assert "is not banned" in gate.bans("explain", neighbour)
    gate.bans("remove", source)
    assert curl("/manifest.json", source=source).status == 200
    assert _banned(gate) == set()


# ---------------------------------------------------------------- IPv6
@pytest.mark.parametrize("http", ["1.1", "2"], ids=["HTTP/1.1", "HTTP/2"])
def test_a_login_keeps_its_address_within_a_64(curl: Curl, household: Household, application: str, http: str) -> None:
    """RFC 8981 gives a client a new address in the middle of it; Home Assistant would say "IP address changed"."""
    begun, later = (Outsider(curl, application, f"2001:db8:0:{http[0]}::{host}", http) for host in "ab")
    flow = begun.begin()
    refused = later.step(flow, username=household.guest, password=fresh_secret())
    assert b"invalid_auth" in refused.body
    accepted = later.step(flow, username=household.guest, password=household.password)
    assert accepted.json()["type"] == "create_entry"
