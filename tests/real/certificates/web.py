"""A small HTTP/1.1 server for stand-ins: one method answers, with TLS or without, and it can be gone and come back."""

import json
import socket
import ssl
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from ports import free_port


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class NoAnswer(Exception):
    """Raised by `Web.answer` to close the connection instead."""


def plain(text: str) -> Answer:
    return Answer(200, text.encode(), {"Content-Type": "text/plain"})


def document(status: int, content: object, kind: str = "application/json", **headers: str) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": kind} | headers)


class Web:
    """Listens on a port of its own on 127.0.0.1 and ::1 from the beginning."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self._tls = tls
        self._listening: list[_Server] = []
        self.up()

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def up(self) -> None:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            server = _Server(family, (address, self.port), self, self._tls)
            self._listening.append(server)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self) -> None:
        """Refuses connections, and ends those that there are."""
        while self._listening:
            server = self._listening.pop()
            server.shutdown()
            server.server_close()
            server.cut()

    stop = down


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, family: socket.AddressFamily, address: tuple[str, int], web: Web, tls: ssl.SSLContext | None
    ) -> None:
        self.address_family, self.web, self._tls = family, web, tls
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        tcp, address = super().get_request()
        tcp.settimeout(60)
        if self._tls:
            # The handshake follows with the first read, in the connection's own thread.
            tcp = self._tls.wrap_socket(tcp, server_side=True, do_handshake_on_connect=False)
        self._open.add(tcp)
        return tcp, address

    def shutdown_request(self, request: socket.socket) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *where: object) -> None:
        # Clients come and go; what matters is what they asked.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*where)

    def cut(self) -> None:
        for tcp in list(self._open):
            with suppress(OSError):
                tcp.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        try:
            answer = self.server.web.answer(request)
        except NoAnswer:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in (answer.headers | {"Content-Length": str(len(answer.body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        pass
