"""Many requests at once on one HTTP/2 connection, written by the `h2` library."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events


@dataclass
class Stream:
    """One answer; status 0 if none came."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)


class Http2Client:
    def __init__(self, stream: ssl.SSLSocket, authority: str) -> None:
        self._stream, self._authority = stream, authority
        self._http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http2.initiate_connection()
        self._flush()

    def post_all(self, requests: list[tuple[str, bytes]]) -> list[Stream]:
        """Sends all of them before it reads the first answer."""
        opened = {}
        for path, body in requests:
            number = self._http2.get_next_available_stream_id()
            head = [(":method", "POST"), (":scheme", "https"), (":authority", self._authority), (":path", path)]
            self._http2.send_headers(number, [*head, ("content-length", str(len(body)))])
            self._http2.send_data(number, body, end_stream=True)
            opened[number] = Stream()
        self._read(opened)
        return list(opened.values())

    def _read(self, opened: dict[int, Stream]) -> None:
        waiting = set(opened)
        try:
            self._flush()
            while waiting and (received := self._stream.recv(65_536)):
                for event in self._http2.receive_data(received):
                    match event:
                        case h2.events.ResponseReceived(stream_id=number, headers=headers):
                            opened[number].status = int(dict(headers)[":status"])
                        case h2.events.DataReceived(stream_id=number, data=data):
                            opened[number].body += data
                            self._http2.acknowledge_received_data(event.flow_controlled_length, number)
                        case h2.events.StreamEnded(stream_id=number) | h2.events.StreamReset(stream_id=number):
                            waiting.discard(number)
                        case h2.events.ConnectionTerminated():
                            return
                self._flush()
        except (ConnectionError, ssl.SSLError):
            pass  # who is banned meanwhile is cut off

    def _flush(self) -> None:
        self._stream.sendall(self._http2.data_to_send())


@contextmanager
def http2_client(host: str, port: int, tls: ssl.SSLContext, source: str) -> Iterator[Http2Client]:
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0)) as tcp,
        tls.wrap_socket(tcp, server_hostname=host) as stream,
    ):
        yield Http2Client(stream, f"{host}:{port}")
