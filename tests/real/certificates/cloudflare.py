"""A stand-in for the part of Cloudflare's API (v4) that changes DNS records: one scoped token, two zones.

Errors have the numbers, words and statuses of the real one.
"""

import json
import re
import secrets
import threading

from name_servers import CLOUD, INNER_CLOUD, NameServers
from web import Answer, Request, Web, document

_RECORDS = re.compile(r"^/zones/(\w{32})/dns_records(?:/(\w{32}))?$")


class Cloudflare(Web):
    def __init__(self, servers: NameServers) -> None:
        self.token = secrets.token_urlsafe(30)
        # What was asked and answered, without the token.
        self.log: list[str] = []
        self.records: dict[str, dict] = {}
        self._servers = servers
        self._zones = {zone: secrets.token_hex(16) for zone in (CLOUD, INNER_CLOUD)}
        self._lock = threading.Lock()
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/client/v4"

    def account(self, **changes: object) -> dict:
        """An entry below `dns:`."""
        return {"provider": "cloudflare", "token": self.token, "url": self.url, "zones": [CLOUD]} | changes

    def zone_of(self, identity: str) -> str:
        return next(zone for zone, known in self._zones.items() if known == identity)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            answer = self._judge(request)
        self.log.append(f"{request.method} {request.target} {answer.status}")
        return answer

    def _judge(self, request: Request) -> Answer:
        authorization = request.headers.get("authorization", "")
        if not re.fullmatch(r"Bearer [\w-]{40}", authorization):
            return _error(400, 6003, "Invalid request headers")
        if authorization != f"Bearer {self.token}":
            return _error(403, 9109, "Invalid access token")
        path = request.path.removeprefix("/client/v4")
        if path == "/zones" and request.method == "GET":
            return self._list_zones(request.query)
        found = _RECORDS.match(path)
        if not found or found[1] not in self._zones.values():
            return _error(
                404, 7003, "Could not route to the requested path, perhaps your object identifier is invalid?"
            )
        return self._change(request, *found.groups())

    def _list_zones(self, query: dict[str, str]) -> Answer:
        zones = [{"id": identity, "name": zone} for zone, identity in self._zones.items()]
        return _page([zone for zone in zones if query.get("name") in (None, zone["name"])])

    def _change(self, request: Request, zone: str, record: str | None) -> Answer:
        if record and record not in self.records:
            return _error(404, 81044, "Record does not exist.")
        match request.method, record:
            case "GET", None:
                return self._list_records(zone, request.query)
            case "POST", None:
                return self._put(zone, secrets.token_hex(16), json.loads(request.body))
            case "GET", str():
                return _result(self.records[record])
            case (("PUT" | "PATCH"), str()):
                return self._put(zone, record, json.loads(request.body))
            case "DELETE", str():
                self._publish("delete", self.records.pop(record))
                return _result({"id": record})
        return _error(405, 10405, "Method not allowed")

    def _list_records(self, zone: str, query: dict[str, str]) -> Answer:
        def is_asked(record: dict) -> bool:
            named = all(record[key] == query[key] for key in ("type", "name", "content") if key in query)
            return record["zone_id"] == zone and named

        return _page([record for record in self.records.values() if is_asked(record)])

    def _put(self, zone: str, identity: str, fields: dict) -> Answer:
        before = self.records.get(identity, {})
        if not before and not {"type", "name", "content"} <= fields.keys():
            return _error(400, 9005, "Content for the record is invalid. Must specify type, name and content.")
        record = {"ttl": 1, "proxied": False} | before | fields | {"id": identity, "zone_id": zone}
        name = self.zone_of(zone)
        if record["name"] != name and not record["name"].endswith("." + name):
            record["name"] += "." + name
        if record["ttl"] != 1 and not 60 <= record["ttl"] <= 86_400:
            return _error(400, 9021, "Invalid TTL. Must be between 60 and 86,400 seconds, or 1 for Automatic.")
        same = ("type", "name", "content")
        others = (other for other in self.records.values() if other["id"] != identity)
        if any(all(other[key] == record[key] for key in same) for other in others):
            return _error(400, 81058, "An identical record already exists.")
        if before:
            self._publish("delete", before)
        self.records[identity] = record
        self._publish("add", record)
        return _result(record)

    def _publish(self, what: str, record: dict) -> None:
        content = record["content"].strip('"')
        value = f'"{content}"' if record["type"] == "TXT" else content
        ttl = "" if what == "delete" else "1 "
        self._servers.update(f"{what} {record['name']} {ttl}{record['type']} {value}")


def _result(result: dict) -> Answer:
    return document(200, {"success": True, "errors": [], "messages": [], "result": result})


def _page(result: list[dict]) -> Answer:
    counts = {"page": 1, "per_page": 100, "count": len(result), "total_count": len(result), "total_pages": 1}
    return document(200, {"success": True, "errors": [], "messages": [], "result": result, "result_info": counts})


def _error(status: int, code: int, message: str) -> Answer:
    errors = [{"code": code, "message": message}]
    return document(status, {"success": False, "errors": errors, "messages": [], "result": None})
