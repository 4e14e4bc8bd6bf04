#!/usr/bin/env python3
"""Slow connections against one gate: how long each kind lives, what it costs, and what other clients notice.

    target/real/venv/bin/python loadtest/slow_connections.py [--connections 2000] [--output FIGURES.json]

Opens the connections in equal groups, one group after another, on loopback from several addresses. Each sends a
byte every two seconds, or nothing. Says for each group when the last of it was gone, and the gate's resident memory
per connection; and the 99th percentile of an ordinary client's answers before and meanwhile. Ends with 1 when a bound
is broken. Takes about 40 s. The gate runs with its defaults, but an idle HTTP/2 connection is given 10 s, not 60.
"""

import argparse
import asyncio
import json
import resource
import ssl
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Process, Queue
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "real"))

from authority import Authority
from gate import NO_RATE_LIMITS, Gate

HOST = "slow.example.test"
PAUSE_SECONDS = 2.0
DEADLINE_SECONDS = 10.0
HTTP2_IDLE_SECONDS = 10.0
# The gate looks at its clocks about once a second, and this client shares two cores with it.
SLACK_SECONDS = 3.0
MOST_BEFORE_TLS, MOST_BEHIND_TLS = 15 << 10, 40 << 10
CONNECTIONS_PER_ADDRESS = 100
PROBE_SECONDS = 6
PROBE_CLIENTS, PROBE_RATE = 8, 25
# Below this a doubled percentile is the scheduler's, not the gate's.
UNNOTICED_MICROSECONDS = 5_000


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = _frame(4, 0, 0, b"")
# HPACK: indexed :method POST, :scheme https, :path /, and :authority spelled out (RFC 7541, appendix A).
_FIELDS = b"\x83\x87\x84\x01" + bytes([len(HOST)]) + HOST.encode()
_END_HEADERS = 4
_HEAD = _frame(1, _END_HEADERS, 1, _FIELDS)
_OPEN_HEAD = _frame(1, 0, 1, _FIELDS)
# A header block that is announced as 8,000 bytes and arrives one at a time.
_CONTINUATION = (8_000).to_bytes(3) + b"\x09\x00" + (1).to_bytes(4)


@dataclass
class Group:
    """Connections of one kind."""

    name: str
    alpn: str | None
    opening: bytes = b""
    drip: Callable[[], Iterator[bytes]] | None = None
    deadline: float = DEADLINE_SECONDS
    lifetimes: list[float] = field(default_factory=list)
    bytes_each: float = 0.0


def _bytes_of(text: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: (text[at : at + 1] for at in range(len(text)))


def _groups() -> list[Group]:
    http1, http2 = "http/1.1", "h2"
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    endless = _bytes_of(b"x" * 1_000)
    one_byte_frames = lambda: iter([_frame(0, 0, 1, b"x")] * 1_000)  # noqa: E731
    post = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n".encode()
    return [
        Group("silent before TLS", None),
        Group("slow TLS hello", None, drip=_bytes_of(hello)),
        Group("silent behind TLS", http1),
        Group("HTTP/1.1 head", http1, b"GET / HTTP/1.1\r\nX-Slow: ", endless),
        Group("HTTP/1.1 body", http1, post, endless),
        Group("HTTP/2 preface", http2, drip=_bytes_of(_PREFACE)),
        Group("HTTP/2 without a request", http2, _PREFACE + _SETTINGS, deadline=HTTP2_IDLE_SECONDS),
        Group("HTTP/2 head", http2, _PREFACE + _SETTINGS + _OPEN_HEAD + _CONTINUATION, endless),
        # The slow stream is reset first; the connection goes when it has been without one for long enough.
        Group("HTTP/2 body", http2, _PREFACE + _SETTINGS + _HEAD, one_byte_frames, DEADLINE_SECONDS + HTTP2_IDLE_SECONDS),
    ]


class SlowConnection(asyncio.Protocol):
    """Sends its opening, then a piece every two seconds, until the gate has had enough."""

    def __init__(self, group: Group, begun: float) -> None:
        self._group, self._begun = group, begun
        self._loop = asyncio.get_running_loop()
        self._pieces = group.drip() if group.drip else iter(())
        self.gone = self._loop.create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(self._group.opening)
        self._loop.call_later(PAUSE_SECONDS, self._send_next)

    def _send_next(self) -> None:
        piece = next(self._pieces, None)
        if piece and not self.gone.done() and not self._transport.is_closing():
            self._transport.write(piece)
            self._loop.call_later(PAUSE_SECONDS, self._send_next)

    def connection_lost(self, error: Exception | None) -> None:
        self._group.lifetimes.append(self._loop.time() - self._begun)
        self.gone.set_result(None)


class Attack:
    """Opens the groups and waits for their end."""

    def __init__(self, gate: Gate, authority: Authority, connections: int) -> None:
        self._gate = gate
        self.groups = _groups()
        self._each = connections // len(self.groups)
        self._opened: list[SlowConnection] = []
        self._tls = {alpn: _client_settings(authority, alpn) for alpn in ("http/1.1", "h2")}

    async def open_all(self) -> None:
        before = self._gate.memory()
        for group in self.groups:
            for batch in range(0, self._each, 20):
                await asyncio.gather(*(self._open(group) for _ in range(min(20, self._each - batch))))
            after = self._gate.memory()
            group.bytes_each = (after - before) / self._each
            before = after

    async def _open(self, group: Group) -> None:
        number = len(self._opened)
        loop = asyncio.get_running_loop()
        slow = SlowConnection(group, loop.time())
        self._opened.append(slow)
        tls = {"ssl": self._tls[group.alpn], "server_hostname": HOST} if group.alpn else {}
        source = f"127.0.2.{1 + number // CONNECTIONS_PER_ADDRESS}"
        await loop.create_connection(lambda: slow, "127.0.0.1", self._gate.https_port, local_addr=(source, 0), **tls)

    async def wait_until_all_are_gone(self) -> bool:
        longest = max(group.deadline for group in self.groups) + 3 * SLACK_SECONDS
        _, still_open = await asyncio.wait([slow.gone for slow in self._opened], timeout=longest)
        return not still_open


def _client_settings(authority: Authority, alpn: str) -> ssl.SSLContext:
    settings = authority.context()
    settings.set_alpn_protocols([alpn])
    return settings


async def _probe(gate: Gate, directory: Path) -> float:
    """The 99th percentile, in microseconds, of an ordinary client's answers at a steady rate."""
    log = directory / "probe.log"
    log.unlink(missing_ok=True)
    h2load = await asyncio.create_subprocess_exec(
        "h2load", f"--clients={PROBE_CLIENTS}", f"--rps={PROBE_RATE}", f"--duration={PROBE_SECONDS}",
        f"--log-file={log}", f"--connect-to=127.0.0.1:{gate.https_port}", gate.url(HOST) + "/",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await asyncio.wait_for(h2load.wait(), PROBE_SECONDS + 30) == 0
    answers = [line.split() for line in log.read_text().splitlines()]
    assert len(answers) > PROBE_SECONDS * PROBE_CLIENTS * PROBE_RATE / 2, "h2load got too few answers"
    assert all(status == "200" for _, status, _ in answers), "an ordinary client was refused"
    return statistics.quantiles((int(microseconds) for _, _, microseconds in answers), n=100)[98]


def _serve_upstream(port: "Queue[int]") -> None:
    """Answers each complete request head with two bytes; bodies are read and forgotten."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await reader.read()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_000)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def _run(gate: Gate, authority: Authority, connections: int, directory: Path) -> dict:
    await _probe(gate, directory)  # warms it up
    unloaded = await _probe(gate, directory)
    attack = Attack(gate, authority, connections)
    await attack.open_all()
    loaded = await _probe(gate, directory)
    all_gone = await attack.wait_until_all_are_gone()
    return {
        "connections": connections,
        "all gone": all_gone,
        "p99 unloaded, us": round(unloaded),
        "p99 loaded, us": round(loaded),
        "groups": [
            {
                "name": group.name,
                "behind TLS": group.alpn is not None,
                "bytes each": round(group.bytes_each),
                "gone after, s": round(max(group.lifetimes), 1) if group.lifetimes else None,
                "deadline, s": group.deadline,
            }
            for group in attack.groups
        ],
    }


def _broken_bounds(figures: dict) -> list[str]:
    broken = [] if figures["all gone"] else ["some connections were never cut"]
    for group in figures["groups"]:
        seconds = group["gone after, s"]
        if seconds is None or seconds > group["deadline, s"] + SLACK_SECONDS:
            broken.append(f"{group['name']}: gone after {seconds} s, not {group['deadline, s']} s")
        if group["bytes each"] > (MOST_BEHIND_TLS if group["behind TLS"] else MOST_BEFORE_TLS):
            broken.append(f"{group['name']}: {group['bytes each']} bytes each")
    loaded, unloaded = figures["p99 loaded, us"], figures["p99 unloaded, us"]
    if loaded > max(2 * unloaded, UNNOTICED_MICROSECONDS):
        broken.append(f"others' 99th percentile went from {unloaded} to {loaded} us")
    return broken


def _print(figures: dict) -> None:
    for group in figures["groups"]:
        gone, kib = group["gone after, s"], group["bytes each"] / 1024
        print(f"{group['name']:<26} gone after {gone} s (deadline {group['deadline, s']:g} s), {kib:5.1f} KiB each")
    print(f"others' 99th percentile    {figures['p99 unloaded, us']} us unloaded, {figures['p99 loaded, us']} us loaded")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=2_000, help="in all groups together (default 2000)")
    parser.add_argument("--output", type=Path, help="a file for the figures as JSON")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    port: Queue[int] = Queue()
    upstream = Process(target=_serve_upstream, args=(port,), daemon=True)
    upstream.start()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        authority = Authority(directory / "certificates")
        files = authority.issue("slow", HOST)
        certificate = {"chain_file": str(files.chain), "key_file": str(files.key)}
        host = {"upstream": f"http://127.0.0.1:{port.get(timeout=10)}", "app": "generic", "certificate": certificate}
        timeouts = {"http2_idle": f"{HTTP2_IDLE_SECONDS:g}s"}
        # One client asks here for what a hundred do.
        gate = Gate(directory / "gate", {HOST: host}, timeouts=timeouts, guard=NO_RATE_LIMITS)
        try:
            figures = asyncio.run(_run(gate, authority, arguments.connections, directory))
        finally:
            gate.stop()
            upstream.terminate()
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")
    _print(figures)
    broken = _broken_bounds(figures)
    for bound in broken:
        print(f"broken: {bound}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
