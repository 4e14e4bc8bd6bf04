"""Every row of what Home Assistant answers to strangers: a guess is counted once, and what is none is not counted."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from clients import Clients
from conftest import HOST, TRUSTED_PROXY
from curl import Curl
from gate import Gate
from home_assistant import HomeAssistant
from household import Household
from outsider import Outsider, fresh_address, fresh_secret
from rows import GUESSES, HARMLESS, Row, Scene

# What counts against a client. "abandoned" is an attempt whose answer nobody waited for.
_COUNTED = ("failed", "abandoned")


class Ledger:
    """What the gate has counted so far, seen from one row to the next."""

    def __init__(self, gate: Gate, report: Path) -> None:
        self._gate, self._report = gate, report
        self._known = self._counted()

    def _counted(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for (kind, outcome), count in self._gate.login_attempts().items():
            if outcome in _COUNTED:
                counted[kind] += count
        return counted

    def news(self) -> dict[str, int]:
        """By kind, since the last time."""
        before, self._known = self._known, self._counted()
        return dict(self._known - before)

    def note(self, *words: object) -> None:
        with open(self._report, "a") as report:
            print(*words, sep="  ", file=report)


@pytest.fixture(scope="module")
def gate(start_shared_gate: Callable[..., Gate], hosts: dict) -> Gate:
    """Guarded as by default; nobody else asks here."""
    return start_shared_gate("guesses", hosts)


@pytest.fixture(scope="module")
def ledger(gate: Gate, artifacts: Path) -> Ledger:
    return Ledger(gate, artifacts / "guesses.txt")


@pytest.fixture(scope="module")
def clients(gate: Gate, clients_of: Callable[..., Clients]) -> Clients:
    return clients_of(gate)


@pytest.fixture(scope="module")
def scene(home_assistant: HomeAssistant, household: Household) -> Scene:
    return Scene(home_assistant, household)


@pytest.fixture
def outsider(gate: Gate, curl_of: Callable[..., Curl], http: str) -> Outsider:
    return Outsider(curl_of(gate), gate.url(HOST) + "/", fresh_address(), http)


over_http = pytest.mark.parametrize("http", ["1.1", "2"], ids=["HTTP/1.1", "HTTP/2"])


def _play(row: Row, scene: Scene, outsider: Outsider, ledger: Ledger) -> dict[str, int]:
    """What the gate counts for the row alone."""
    if row.only_newest and scene.home_assistant.version == "2025.4.4":
        pytest.skip("this release does not know it")
    act = row.prepare(scene, outsider)
    ledger.news()
    answer = act()
    counted = ledger.news()
    ledger.note(f"HTTP/{outsider.http}", f"{row!s:50}", answer.status, counted or "nothing")
    assert row.status in (0, answer.status), (answer.status, answer.body)
    assert row.says in answer.body, answer.body
    return counted


@over_http
@pytest.mark.parametrize("row", GUESSES, ids=str)
def test_a_guess_is_counted_once(row: Row, scene: Scene, outsider: Outsider, ledger: Ledger) -> None:
    assert _play(row, scene, outsider, ledger) == {row.kind: 1}


@over_http
@pytest.mark.parametrize("row", HARMLESS, ids=str)
def test_what_is_no_guess_is_not_counted(row: Row, scene: Scene, outsider: Outsider, ledger: Ledger) -> None:
    assert _play(row, scene, outsider, ledger) == {}


# ---------------------------------------------------------------- WebSockets
async def _whole(websocket: ClientConnection, text: str) -> None:
    assert "auth_required" in await websocket.recv()
    await websocket.send(text)


async def _in_fragments(websocket: ClientConnection, text: str) -> None:
    assert "auth_required" in await websocket.recv()
    await websocket.send([text[:5], text[5:20], text[20:]])


async def _early(websocket: ClientConnection, text: str) -> None:
    await websocket.send(text)
    assert "auth_required" in await websocket.recv()


_MANNERS: dict[str, tuple[bool, Callable[[ClientConnection, str], Awaitable[None]]]] = {
    "plain": (False, _whole),
    "deflate": (True, _whole),
    "fragments": (False, _in_fragments),
    "deflate, fragments": (True, _in_fragments),
    "before it is asked": (False, _early),
    "deflate, before it is asked": (True, _early),
}
in_every_manner = pytest.mark.parametrize("manner", _MANNERS)


@asynccontextmanager
async def _socket(clients: Clients, address: str, compressed: bool = False, **fields: str) -> AsyncIterator[ClientConnection]:
    headers = [("X-Forwarded-For", address), *fields.items()]
    async with clients.websocket(source=TRUSTED_PROXY, compressed=compressed, headers=headers) as websocket:
        yield websocket


async def _rest(websocket: ClientConnection, seconds: float = 20) -> tuple[list[str], int | None]:
    """What still comes, and the code of the close frame."""
    said: list[str] = []
    async with asyncio.timeout(seconds):
        try:
            while True:
                said.append(await websocket.recv())
        except ConnectionClosed as closed:
            return said, closed.rcvd and closed.rcvd.code


async def _first_message(clients: Clients, ledger: Ledger, manner: str, message: dict) -> tuple[str, dict[str, int]]:
    """What Home Assistant says to the first message, and what the gate counts for it."""
    compressed, send = _MANNERS[manner]
    ledger.news()
    async with _socket(clients, fresh_address(), compressed) as websocket:
        await send(websocket, json.dumps(message))
        said, code = await _rest(websocket)
    assert code == 1000
    verdict = json.loads(said[-1])
    assert verdict["type"] == "auth_invalid"
    return verdict["message"], await asyncio.to_thread(ledger.news)


@in_every_manner
@pytest.mark.parametrize("field", ["access_token", "api_password"])
async def test_row_23_a_bad_token_in_a_websocket(clients: Clients, ledger: Ledger, manner: str, field: str) -> None:
    message, counted = await _first_message(clients, ledger, manner, {"type": "auth", field: fresh_secret()})
    ledger.note(f"WebSocket, {manner}", f"23 bad {field}", message, counted)
    assert counted == {"websocket": 1}


@in_every_manner
@pytest.mark.parametrize(
    "malformed", [{"type": "auth", "access_token": "x", "z": 1}, {"type": "get_states", "id": 1}], ids=["extra key", "command"]
)
async def test_row_24_a_malformed_first_message(clients: Clients, ledger: Ledger, manner: str, malformed: dict) -> None:
    message, counted = await _first_message(clients, ledger, manner, malformed)
    ledger.note(f"WebSocket, {manner}", "24 malformed", message, counted or "nothing")
    assert message.startswith("Auth message incorrectly formatted")
    assert counted == {}


@pytest.mark.parametrize("sent", ["not JSON", b"binary", "x" * 70_000], ids=["not JSON", "binary", "large"])
async def test_row_25_a_first_message_that_is_none(clients: Clients, ledger: Ledger, sent: str | bytes) -> None:
    ledger.news()
    async with _socket(clients, fresh_address()) as websocket:
        await websocket.recv()
        await websocket.send(sent)
        said, code = await _rest(websocket)
    counted = await asyncio.to_thread(ledger.news)
    ledger.note("WebSocket", f"25 {sent[:10]!r}", said, code, counted or "nothing")
    assert (said, counted) == ([], {})


@pytest.fixture(scope="module")
def silent(clients: Clients) -> Iterator[tuple[str, Future]]:
    """A WebSocket on which the client says nothing, watched beside the other rows."""
    address = fresh_address()

    async def listen() -> tuple[list[str], int | None]:
        async with _socket(clients, address) as websocket:
            return await _rest(websocket, 30)

    with ThreadPoolExecutor(1) as thread:
        yield address, thread.submit(lambda: asyncio.run(listen()))


@pytest.fixture(scope="module", autouse=True)
def _begin_silent(silent: tuple[str, Future]) -> None:
    """Home Assistant waits for ten seconds, which the other rows take anyhow."""


def test_row_25_nothing_for_ten_seconds(silent: tuple[str, Future], gate: Gate, ledger: Ledger) -> None:
    address, end = silent
    said, code = end.result(40)
    counted = gate.explain(address)["failures"]["count"]
    ledger.note("WebSocket", "25 nothing said", code, counted or "nothing")
    assert (len(said), code, counted) == (1, 1000, 0)


@pytest.mark.parametrize("then", ["leaves", "logs in"])
async def test_row_26_a_bad_header_on_the_upgrade(
    clients: Clients, ledger: Ledger, home_assistant: HomeAssistant, then: str
) -> None:
    ledger.news()
    async with _socket(clients, fresh_address(), Authorization=f"Bearer {fresh_secret()}") as websocket:
        assert "auth_required" in await websocket.recv()
        if then == "logs in":
            await websocket.send(json.dumps({"type": "auth", "access_token": home_assistant.token}))
            assert "auth_ok" in await websocket.recv()
    counted = await asyncio.to_thread(ledger.news)
    ledger.note("WebSocket", f"26 bad header, then {then}", counted or "nothing")
    assert counted == {}


def test_no_row_has_led_to_a_ban(gate: Gate) -> None:
    assert json.loads(gate.bans("list", "--json"))["total"] == 0
