"""A reload changes what the file says and touches nothing else."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from authority import Authority
from clients import Clients
from conftest import ECHO_HOST, HOST
from curl import Curl
from echo import Echo
from gate import NO_RATE_LIMITS, Gate
from home_assistant import HomeAssistant
from load import Load
from waiting import wait_for
from websocket_api import HomeAssistantSocket, logged_in

_WEBSOCKETS = 200
_RELOADS = 100


@asynccontextmanager
async def _many_websockets(clients: Clients, token: str) -> AsyncIterator[list[HomeAssistantSocket]]:
    """Logged in, from eight addresses, every other one compressed."""
    async with AsyncExitStack() as stack:
        opened = []
        for number in range(_WEBSOCKETS):
            source, compressed = f"127.0.1.{number % 8 + 1}", number % 2 == 0
            opened.append(await stack.enter_async_context(logged_in(clients, token, source=source, compressed=compressed)))
        yield opened


async def test_100_reloads_under_load_drop_no_websocket_and_fail_no_request(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], hosts: dict, home_assistant: HomeAssistant,
    record_figure: Callable[[str, object], None],
) -> None:  # fmt: skip
    gate = start_gate(hosts, guard=NO_RATE_LIMITS)
    clients = clients_of(gate)
    async with _many_websockets(clients, home_assistant.token) as websockets:
        async with Load(clients, "/manifest.json").running() as load:
            for number in range(_RELOADS):
                gate.config["limits"] = {"header_count": 100 + number % 2}
                gate.config["hosts"][ECHO_HOST]["aliases"] = [f"alias-{number}.example.test"]
                await asyncio.to_thread(gate.reload)
        await asyncio.gather(*(websocket.ping() for websocket in websockets))
    record_figure("requests during 100 reloads with 200 WebSockets", sum(load.answers.values()))
    assert load.answers["200"] > 500
    assert load.failures() == {}


def test_a_reload_takes_hosts_in_and_out(
    start_gate: Callable[..., Gate], curl_of: Callable[..., Curl], hosts: dict, echo: Echo,
    authority: Authority, host_entry: Callable[..., dict],
) -> None:  # fmt: skip
    new_host = "new.example.test"
    gate = start_gate(dict(hosts))
    curl = curl_of(gate)
    assert curl.attempt("/", host=new_host)[0].returncode != 0

    gate.config["hosts"][new_host] = host_entry(echo.url, "generic", authority.issue("new-host", new_host))
    gate.reload()
    assert curl("/", host=new_host).status == 200

    del gate.config["hosts"][new_host]
    gate.write()
    gate.signal(signal.SIGHUP)
    wait_for("the host is gone after SIGHUP", lambda: curl.attempt("/", host=new_host)[0].returncode != 0)
    assert curl("/manifest.json").status == 200


def test_a_bad_file_leaves_the_old_one_serving_and_says_why(
    start_gate: Callable[..., Gate], curl_of: Callable[..., Curl], hosts: dict
) -> None:
    gate = start_gate(hosts)
    curl = curl_of(gate)
    assert gate.command("check").returncode == 0

    gate.config["hostz"] = {}
    gate.write()
    checked, reloaded = gate.command("check"), gate.command("reload")
    assert checked.returncode == 78
    assert reloaded.returncode != 0
    for said in (checked.stdout + checked.stderr, reloaded.stdout + reloaded.stderr, gate.log()):
        assert "hostz" in said
    assert curl("/manifest.json").status == 200

    del gate.config["hostz"]
    gate.reload()
    assert curl("/manifest.json").status == 200


async def test_a_request_in_flight_ends_on_the_file_it_began_with(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], hosts: dict
) -> None:
    gate = start_gate({name: dict(entry) for name, entry in hosts.items()})
    async with clients_of(gate, ECHO_HOST).http() as http:
        begun = asyncio.create_task(http.get("/?delay=2"))
        await asyncio.sleep(0.5)
        gate.config["hosts"][ECHO_HOST]["upstream"] = gate.config["hosts"][HOST]["upstream"]
        await asyncio.to_thread(gate.reload)
        async with await begun as answer:
            assert answer.status == 200
            assert "headers" in await answer.json()
