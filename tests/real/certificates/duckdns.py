"""A stand-in for DuckDNS: one account, its token and its names, checked as the real one checks them.

Every name has one TXT record, which all names below it share; so it is with its addresses. Answers are `OK` and `KO`,
always with status 200.
"""

import secrets
import threading
import time
import uuid
from dataclasses import dataclass

from name_servers import DUCKDNS, NameServers
from web import Answer, Request, Web, plain


@dataclass(frozen=True)
class Told:
    """One accepted request. The token is not part of it."""

    at: float
    what: str  # set, clear, address
    names: tuple[str, ...]
    value: str = ""


class DuckDns(Web):
    def __init__(self, servers: NameServers, *names: str) -> None:
        self.token = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        self.log: list[Told] = []
        self.refused = 0
        self._servers, self._names = servers, set(names)
        self._lock = threading.Lock()
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, **changes: object) -> dict:
        """An entry below `dns:`."""
        return {"provider": "duckdns", "token": self.token, "url": self.url} | changes

    def answer(self, request: Request) -> Answer:
        query = request.query
        names = tuple(name.removesuffix(f".{DUCKDNS}") for name in query.get("domains", "").split(","))
        is_ours = query.get("token") == self.token and set(names) <= self._names
        if request.method != "GET" or request.path != "/update" or not is_ours:
            with self._lock:
                self.refused += 1
            return plain("KO")
        with self._lock:
            return plain("OK" if self._do(names, query) else "KO")

    def _do(self, names: tuple[str, ...], query: dict[str, str]) -> bool:
        clear = query.get("clear") == "true"
        if "txt" in query:
            # An empty text without `clear` leaves the record as it is.
            if not clear and not query["txt"]:
                return False
            self._publish(names, {"TXT": None if clear else f'"{query["txt"]}"'})
            self._tell("clear" if clear else "set", names, "" if clear else query["txt"])
            return True
        addresses = {kind: query[key] for key, kind in (("ip", "A"), ("ipv6", "AAAA")) if query.get(key)}
        if clear:
            addresses = {"A": None, "AAAA": None}
        if not addresses:
            return False  # the real one would take the address that it is asked from
        self._publish(names, addresses)
        self._tell("address", names, " ".join(f"{kind}={value}" for kind, value in addresses.items()))
        return True

    def _publish(self, names: tuple[str, ...], records: dict[str, str | None]) -> None:
        changes = []
        for name in names:
            for owner in (f"{name}.{DUCKDNS}", f"*.{name}.{DUCKDNS}"):
                for kind, value in records.items():
                    changes.append(f"delete {owner} {kind}")
                    if value is not None:
                        changes.append(f"add {owner} 1 {kind} {value}")
        self._servers.update(*changes)

    def _tell(self, what: str, names: tuple[str, ...], value: str) -> None:
        self.log.append(Told(time.monotonic(), what, names, value))
