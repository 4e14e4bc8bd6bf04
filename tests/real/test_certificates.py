"""Certificate files that change while clients come and go."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from authority import Authority, CertificateFiles
from clients import Clients
from conftest import HOST
from gate import NO_RATE_LIMITS, Gate
from home_assistant import HomeAssistant
from load import Load
from websocket_api import logged_in

_SWAPS = 4
# Files are looked at every two seconds unless the configuration says otherwise.
_SEEN_WITHIN = 15


class _Handshakes:
    """Shakes hands over and over with full verification; keeps which certificates came and what failed."""

    def __init__(self, gate: Gate, tls: ssl.SSLContext) -> None:
        self._port, self._tls = gate.https_port, tls
        self._over = False
        self.certificates: list[bytes] = []
        self.failures: Counter[str] = Counter()
        self.count = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["_Handshakes"]:
        workers = [asyncio.create_task(self._work()) for _ in range(4)]
        try:
            yield self
        finally:
            self._over = True
            await asyncio.gather(*workers)

    async def _work(self) -> None:
        while not self._over:
            try:
                async with asyncio.timeout(10):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1", self._port, ssl=self._tls, server_hostname=HOST, local_addr=("127.0.0.30", 0)
                    )
                certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                if certificate not in self.certificates:
                    self.certificates.append(certificate)
                self.count += 1
                writer.transport.abort()
            except (OSError, ssl.SSLError, TimeoutError) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
            await asyncio.sleep(0.005)

    async def until_there_are(self, number: int) -> None:
        async with asyncio.timeout(_SEEN_WITHIN):
            while len(self.certificates) < number:
                await asyncio.sleep(0.05)


async def test_swapped_files_are_picked_up_under_load_and_no_handshake_fails(
    start_gate: Callable[..., Gate], clients_of: Callable[..., Clients], authority: Authority,
    home_assistant: HomeAssistant, host_entry: Callable[..., dict], record_figure: Callable[[str, object], None],
) -> None:  # fmt: skip
    files = authority.issue("swapped", HOST)
    gate = start_gate({HOST: host_entry(home_assistant.url, "home_assistant", files)}, guard=NO_RATE_LIMITS)
    clients = clients_of(gate)
    handshakes = _Handshakes(gate, authority.context())
    async with logged_in(clients, home_assistant.token) as websocket:
        async with Load(clients, "/manifest.json").running() as load, handshakes.running():
            await handshakes.until_there_are(1)
            for number in range(_SWAPS):
                files.replace_with(authority.issue(f"swap-{number}", HOST))
                await handshakes.until_there_are(number + 2)
        await websocket.ping()
    record_figure(f"handshakes during {_SWAPS} certificate swaps", handshakes.count)
    assert handshakes.failures == {}
    assert load.failures() == {}


async def test_broken_files_leave_the_old_certificate_and_an_error_in_the_log(
    start_gate: Callable[..., Gate], authority: Authority, home_assistant: HomeAssistant, host_entry: Callable[..., dict]
) -> None:
    files = authority.issue("broken", HOST)
    gate = start_gate({HOST: host_entry(home_assistant.url, "home_assistant", files)})
    handshakes = _Handshakes(gate, authority.context())

    async def error_about(text: str) -> None:
        async with asyncio.timeout(_SEEN_WITHIN):
            while not any("ERROR" in line and text in line for line in gate.log().splitlines()):
                await asyncio.sleep(0.05)

    async with handshakes.running():
        await handshakes.until_there_are(1)
        files.chain.write_text("not a certificate\n")
        await error_about(str(files.chain))
        good = authority.issue("good-again", HOST)
        files.replace_with(CertificateFiles(good.chain, good.key))
        await handshakes.until_there_are(2)
    assert handshakes.failures == {}
