"""Someone at an address of their own, who sends what the story says."""

import base64
import hashlib
import hmac
import itertools
import json
import struct
import subprocess
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from conftest import TRUSTED_PROXY
from curl import Answer, Curl

# The first ones are those that other tests name.
_addresses = (f"{network}.{host}" for network in ("203.0.113", "198.51.100", "192.0.2") for host in range(20, 255))
_local_addresses = (f"127.40.{number // 250}.{number % 250 + 1}" for number in itertools.count())
_secrets = itertools.count(1)


def fresh_address() -> str:
    """A public address that nobody has used in this run."""
    return next(_addresses)


def fresh_local_address() -> str:
    """The same, of this machine: to be banned, it takes `never_ban: []`."""
    return next(_local_addresses)


def fresh_secret(length: int = 32) -> str:
    """Hex digits that nobody has tried in this run."""
    return hashlib.sha256(f"guess {next(_secrets)} {time.time_ns()}".encode()).hexdigest().ljust(length, "0")[:length]


def time_code(secret: str, wrong: int = 0) -> str:
    """The code of RFC 6238 that an authenticator shows now, or with `wrong` one that it does not."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    at = digest[-1] & 0xF
    code = (struct.unpack(">I", digest[at : at + 4])[0] & 0x7FFFFFFF) % 1_000_000
    return f"{(code + wrong * 77_777) % 1_000_000:06}"


@dataclass(frozen=True)
class Outsider:
    """A client of the gate by HTTP; `application` is its OAuth client_id.

    It comes from `address` itself if that is one of this machine, or else through a proxy that the gate trusts.
    """

    curl: Curl
    application: str
    address: str
    http: str = "1.1"

    def ask(self, target: str, *options: str, **request: object) -> Answer:
        done, answer = self.attempt(target, *options, **request)
        assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr}"
        return answer

    def attempt(self, target: str, *options: str, **request: object) -> tuple[subprocess.CompletedProcess, Answer]:
        """The same where no answer may come."""
        request = {"http": self.http} | request
        if self.address.startswith("127."):
            return self.curl.attempt(target, *options, source=self.address, **request)
        forwarded = ("--header", f"X-Forwarded-For: {self.address}")
        return self.curl.attempt(target, *forwarded, *options, source=TRUSTED_PROXY, **request)

    def post_json(self, target: str, body: object, *options: str) -> Answer:
        text = body if isinstance(body, str) else json.dumps(body)
        return self.ask(target, "--header", "Content-Type: text/plain;charset=UTF-8", "--data-binary", text, *options)

    def post_form(self, target: str, **fields: str) -> Answer:
        return self.ask(target, "--data", urlencode(fields))

    def begin(self, **more: object) -> str:
        """The id of a new login."""
        answer = self.post_json("/auth/login_flow", self.beginning(**more))
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()["flow_id"]

    def beginning(self, **more: object) -> dict:
        handler, back = ["homeassistant", None], self.application + "?auth_callback=1"
        return {"client_id": self.application, "handler": handler, "redirect_uri": back} | more

    def step(self, flow: str, **fields: str) -> Answer:
        return self.post_json(f"/auth/login_flow/{flow}", {"client_id": self.application, **fields})

    def token(self, **fields: str) -> Answer:
        return self.post_form("/auth/token", **{"client_id": self.application, **fields})

    def refresh(self, token: str, **more: str) -> Answer:
        return self.token(grant_type="refresh_token", refresh_token=token, **more)

    def code(self, user: str, password: str, **more: object) -> str:
        """Logs in as far as to the code that is good for a token."""
        answer = self.step(self.begin(**more), username=user, password=password)
        assert answer.json()["type"] == "create_entry", answer.body
        return answer.json()["result"]

    def log_in(self, user: str, password: str) -> dict:
        """A whole login; the tokens."""
        answer = self.token(grant_type="authorization_code", code=self.code(user, password))
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()
