"""The client's address as Home Assistant sees it: right for every kind of client, and forged by none.

Home Assistant logs the address of each request with a bad token, so that line is what is asked. The gate asks about a
bearer by itself, without the query that marks a line here, so it is a refresh token; each is another, for the gate does
not pass on what was refused a few times.
"""

import itertools
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable

import pytest

from authority import Authority
from clients import Clients
from conftest import ECHO_HOST, HOST, PROXY_PROTOCOL_PEER, TRUSTED_PROXY
from curl import Curl
from gate import Gate
from home_assistant import HomeAssistant
from websocket_api import HomeAssistantSocket

_FORGED = "6.6.6.6"
_CLIENT = "127.0.0.9"

# What a client may try, as request fields. Home Assistant trusts the gate's own address, so that is tried too.
_FORGERIES = {
    "one line": [("X-Forwarded-For", _FORGED)],
    "two lines": [("X-Forwarded-For", _FORGED), ("X-Forwarded-For", "7.7.7.7")],
    "a list": [("X-Forwarded-For", f"{_FORGED}, 127.0.0.1")],
    "the trusted address": [("X-Forwarded-For", "127.0.0.1")],
    "garbage": [("X-Forwarded-For", "garbage, , [::1]:99")],
    "an address with a zone": [("X-Forwarded-For", "fe80::1%eth0")],
    "other case": [("x-FORWARDED-for", _FORGED)],
    "underscores": [("X_Forwarded_For", _FORGED)],
    "Forwarded": [("Forwarded", f"for={_FORGED};proto=http;host=evil.example")],
    "X-Real-IP": [("X-Real-IP", _FORGED)],
    "CF-Connecting-IP": [("CF-Connecting-IP", _FORGED)],
    "True-Client-IP": [("True-Client-IP", _FORGED)],
    "X-Client-IP": [("X-Client-IP", _FORGED)],
    "proto and host": [("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "evil.example")],
    "proto and host twice": [("X-Forwarded-Proto", "http, http"), ("X-Forwarded-Host", "a"), ("X-Forwarded-Host", "b")],
    "everything": [
        ("X-Forwarded-For", _FORGED), ("Forwarded", f"for={_FORGED}"), ("X-Real-IP", _FORGED),
        ("CF-Connecting-IP", _FORGED), ("True-Client-IP", _FORGED), ("X-Forwarded-Proto", "http"),
    ],
}  # fmt: skip
_NOMINATIONS = {
    "Connection takes it away": [("Connection", "X-Forwarded-For")],
    "Connection takes a forged one away": [("Connection", "close, x-forwarded-for"), ("X-Forwarded-For", _FORGED)],
}

_REFRESH = f"grant_type=refresh_token&client_id=https%3A%2F%2F{HOST}%2F&refresh_token="
_numbers = itertools.count()


def _as_options(fields: list[tuple[str, str]]) -> list[str]:
    return [option for name, value in fields for option in ("--header", f"{name}: {value}")]


def _bad_token(marker: str) -> tuple[str, ...]:
    """Target and options of a request that Home Assistant refuses and logs with `marker`."""
    return f"/auth/token?{marker}", "--data", f"{_REFRESH}{marker}"


class Seen:
    """Sends requests that Home Assistant refuses, and reads in its log from whom they came."""

    def __init__(self, curl: Curl, clients: Clients, home_assistant: HomeAssistant) -> None:
        self._curl, self._clients, self._home_assistant = curl, clients, home_assistant

    async def by(self, carrier: str, fields: list[tuple[str, str]], source: str) -> str:
        marker = f"probe{next(_numbers)}x"
        if carrier == "WebSocket":
            await self._open_websocket(marker, fields, source)
        else:
            answer = self._curl(
                *_bad_token(marker), *_as_options(fields), source=source, http=carrier.removeprefix("HTTP/")
            )
            assert (answer.status, f"HTTP/{answer.version}") == (400, carrier)
            assert answer.json() == {"error": "invalid_grant"}
        return self.address(marker)

    def address(self, marker: str) -> str:
        line = self._home_assistant.log_line(marker)
        return re.search(r"authentication from \S+ \(([^)]+)\)\. Requested URL", line)[1]

    async def _open_websocket(self, marker: str, fields: list[tuple[str, str]], source: str) -> None:
        path = f"/api/websocket?{marker}"
        async with self._clients.websocket(path, source=source, headers=fields) as websocket:
            api = HomeAssistantSocket(websocket)
            await api.receive()
            await websocket.send(json.dumps({"type": "auth", "access_token": marker}))
            assert (await api.receive())["type"] == "auth_invalid"


carriers = pytest.mark.parametrize("carrier", ["HTTP/1.1", "HTTP/2", "WebSocket"])


@pytest.fixture(scope="module")
def gate(start_shared_gate: Callable[..., Gate], hosts: dict) -> Gate:
    """These clients send dozens of bad tokens each, which the defaults throttle."""
    return start_shared_gate("client addresses", hosts, guard={"login": {"max_failures": 100}})


@pytest.fixture(scope="module")
def clients(gate: Gate, clients_of: Callable[..., Clients]) -> Clients:
    return clients_of(gate)


@pytest.fixture(scope="module")
def curl(gate: Gate, curl_of: Callable[..., Curl]) -> Curl:
    return curl_of(gate)


@pytest.fixture
def seen(curl: Curl, clients: Clients, home_assistant: HomeAssistant) -> Seen:
    return Seen(curl, clients, home_assistant)


@carriers
@pytest.mark.parametrize("source", ["127.0.0.1", _CLIENT, "127.200.3.4", "::1"])
async def test_each_client_is_seen_as_itself(seen: Seen, carrier: str, source: str) -> None:
    assert await seen.by(carrier, [], source) == source


@carriers
@pytest.mark.parametrize("forgery", _FORGERIES)
async def test_no_field_makes_a_client_another(seen: Seen, carrier: str, forgery: str) -> None:
    assert await seen.by(carrier, _FORGERIES[forgery], _CLIENT) == _CLIENT


@pytest.mark.parametrize("nomination", _NOMINATIONS)
def test_connection_cannot_take_the_address_away(curl: Curl, seen: Seen, nomination: str) -> None:
    """The gate may refuse such a request; what it must not do is let it arrive without the address."""
    marker = f"nominated{next(_numbers)}x"
    answer = curl(*_bad_token(marker), *_as_options(_NOMINATIONS[nomination]), source=_CLIENT)
    assert answer.status == 400
    assert b"invalid_grant" not in answer.body or seen.address(marker) == _CLIENT


@carriers
@pytest.mark.parametrize(
    ("claim", "client"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("6.6.6.6, 198.51.100.9", "198.51.100.9"),
        (f"198.51.100.9, {TRUSTED_PROXY}", "198.51.100.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
    ],
)
async def test_a_trusted_proxy_names_its_client(seen: Seen, carrier: str, claim: str, client: str) -> None:
    assert await seen.by(carrier, [("X-Forwarded-For", claim)], TRUSTED_PROXY) == client


@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("forgery", _FORGERIES)
def test_the_upstream_gets_one_of_each_forwarded_field(curl: Curl, gate: Gate, forgery: str, http: str) -> None:
    answer = curl("/", *_as_options(_FORGERIES[forgery]), host=ECHO_HOST, source=_CLIENT, http=http)
    arrived = [(name.lower().replace("_", "-"), value) for name, value in answer.json()["headers"]]

    def values(name: str) -> list[str]:
        return [value for field, value in arrived if field == name]

    if forgery != "underscores":
        assert values("x-forwarded-for") == [_CLIENT]
    assert values("x-forwarded-proto") == ["https"]
    assert values("x-forwarded-host") == [f"{ECHO_HOST}:{gate.https_port}"]
    assert values("host") == [f"{ECHO_HOST}:{gate.https_port}"]
    for name in ("forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip"):
        assert values(name) == [], name


_PROXY_V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
_PROXY_V1_IPV6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n"
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY_V2 = (
    _SIGNATURE
    + b"\x21\x11"
    + struct.pack("!H4s4sHH", 12, socket.inet_aton("203.0.113.7"), socket.inet_aton("192.0.2.1"), 40000, 443)
)


def _request_behind(header: bytes, source: str, port: int, tls: ssl.SSLContext, marker: str) -> bytes:
    """Sends `header`, then TLS and one request; the status line of the answer, empty when cut off."""
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0)) as tcp:
        tcp.sendall(header)
        with tls.wrap_socket(tcp, server_hostname=HOST) as stream:
            body = _REFRESH + marker
            form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}"
            fields = f"Host: {HOST}\r\n{form}\r\nConnection: close"
            stream.sendall(f"POST /auth/token?{marker} HTTP/1.1\r\n{fields}\r\n\r\n{body}".encode())
            return stream.makefile("rb").readline()


@pytest.mark.parametrize(
    ("header", "client"),
    [(_PROXY_V1, "203.0.113.7"), (_PROXY_V1_IPV6, "2001:db8::7"), (_PROXY_V2, "203.0.113.7")],
    ids=["v1", "v1 IPv6", "v2"],
)
def test_a_proxy_protocol_peer_names_its_client(
    gate: Gate, authority: Authority, seen: Seen, header: bytes, client: str
) -> None:
    marker = f"announced{next(_numbers)}x"
    status = _request_behind(header, PROXY_PROTOCOL_PEER, gate.https_port, authority.context(), marker)
    assert b" 400 " in status
    assert seen.address(marker) == client


@pytest.mark.parametrize(
    ("header", "source"),
    [(_PROXY_V1, _CLIENT), (_PROXY_V2, _CLIENT), (b"", PROXY_PROTOCOL_PEER)],
    ids=["v1 from a stranger", "v2 from a stranger", "none from the peer"],
)
def test_a_proxy_protocol_header_out_of_place_ends_the_connection(
    gate: Gate, authority: Authority, header: bytes, source: str
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _request_behind(header, source, gate.https_port, authority.context(), "misplaced")


def test_home_assistant_treats_a_stranger_as_one(
    start_gate: Callable[..., Gate], curl_of: Callable[..., Curl], hosts: dict
) -> None:
    """It proposes to remember the login to clients at home only."""
    proxy = {"networks": [f"{TRUSTED_PROXY}/32"], "header": "x-forwarded-for"}
    curl = curl_of(start_gate(hosts, trusted_proxies=proxy))

    def is_at_home(claim: str) -> bool:
        answer = curl("/auth/providers", "--header", f"X-Forwarded-For: {claim}", source=TRUSTED_PROXY)
        return answer.json()["preselect_remember_me"]

    assert is_at_home("192.168.1.50")
    assert not is_at_home("203.0.113.7")
