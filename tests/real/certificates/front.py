"""What stands between the gate and Pebble: passes everything on, and does what a real authority does on a bad day.

It can be gone, answer in Pebble's place, lose an answer on the way, or hold a request until the test lets it go.
"""

import base64
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from authority import CertificateFiles
from web import Answer, NoAnswer, Request, Web, document

# Pebble's paths, which differ from those of other authorities on purpose.
_KINDS = {
    "/dir": "directory",
    "/nonce-plz": "nonce",
    "/sign-me-up": "account",
    "/order-plz": "new order",
    "/my-order/": "order",
    "/authZ/": "authorization",
    "/chalZ/": "challenge",
    "/finalize-order/": "finalize",
    "/certZ/": "certificate",
    "/revoke-cert": "revocation",
    "/draft-ietf-acme-ari-03/renewalInfo/": "renewal information",
}

# Gets the request and what passes it on to Pebble.
Rule = Callable[[Request, Callable[[], Answer]], Answer]


class Hold:
    """A request on its way."""

    def __init__(self) -> None:
        self.reached, self._released = threading.Event(), threading.Event()

    def release(self) -> None:
        self._released.set()

    def wait(self) -> None:
        self.reached.set()
        self._released.wait(60)


class Front(Web):
    def __init__(self, files: CertificateFiles, pebble_port: int, client_tls: ssl.SSLContext) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        self._pebble_port, self._client_tls = pebble_port, client_tls
        self._rules: dict[str, Rule] = {}
        self.asked: Counter[str] = Counter()
        # What the gate signed and sent, by kind; nothing of it is encrypted.
        self.payloads: list[tuple[str, dict]] = []
        self.refused_nonces = 0
        super().__init__(context)

    def orders(self) -> list[dict]:
        """What was asked of `newOrder` so far."""
        return [payload for kind, payload in self.payloads if kind == "new order"]

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    def answer(self, request: Request) -> Answer:
        kind = next((kind for path, kind in _KINDS.items() if request.path.startswith(path)), request.path)
        self.asked[kind] += 1
        if request.method == "POST" and (payload := json.loads(request.body).get("payload")):
            self.payloads.append((kind, json.loads(base64.urlsafe_b64decode(payload + "=="))))
        rule = self._rules.get(kind)
        return rule(request, lambda: self._pass_on(request)) if rule else self._pass_on(request)

    def _pass_on(self, request: Request) -> Answer:
        connection = http.client.HTTPSConnection("localhost", self._pebble_port, context=self._client_tls, timeout=30)
        try:
            # With the client's `Host`, from which Pebble makes all its URLs.
            connection.request(request.method, request.target, request.body or None, request.headers)
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            raise NoAnswer from None
        finally:
            connection.close()
        dropped = {"connection", "transfer-encoding", "content-length", "date"}
        self.refused_nonces += answer.status == 400 and b":badNonce" in body
        # Several `Link`s are one with commas.
        headers: dict[str, str] = {}
        for name, value in answer.getheaders():
            if name.lower() not in dropped:
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Answer(answer.status, body, headers)

    def on(self, kind: str, rule: Rule | None) -> None:
        """Does this with all requests of that kind, until told otherwise."""
        if rule:
            self._rules[kind] = rule
        else:
            self._rules.pop(kind, None)

    def refuse(
        self, kind: str, status: int, problem: str, detail: str, times: int | None = None, **headers: str
    ) -> None:
        """Answers with a problem document (RFC 8555, section 6.7) in Pebble's place."""
        left = [times]

        def rule(_: Request, pass_on: Callable[[], Answer]) -> Answer:
            if left[0] == 0:
                return pass_on()
            if left[0] is not None:
                left[0] -= 1
            # Clients take their next nonce from errors too.
            headers_of_ours = {"host": f"localhost:{self.port}", "user-agent": "front"}
            nonce = self._pass_on(Request("HEAD", "/nonce-plz", headers_of_ours, b"")).headers["Replay-Nonce"]
            content = {"type": f"urn:ietf:params:acme:error:{problem}", "detail": detail, "status": status}
            return document(status, content, "application/problem+json", **{"Replay-Nonce": nonce}, **headers)

        self.on(kind, rule)

    def lose_answers(self, kind: str, times: int) -> None:
        """Pebble does as it is asked, and the client never hears of it."""
        left = [times]

        def rule(_: Request, pass_on: Callable[[], Answer]) -> Answer:
            answer = pass_on()
            if left[0] == 0:
                return answer
            left[0] -= 1
            raise NoAnswer

        self.on(kind, rule)

    def hold(self, kind: str, after_pebble: bool) -> Hold:
        """Keeps the next request before it is passed on, or its answer."""
        hold = Hold()

        def rule(_: Request, pass_on: Callable[[], Answer]) -> Answer:
            if hold.reached.is_set():
                return pass_on()
            answer = None
            if after_pebble:
                answer = pass_on()
            hold.wait()
            return answer or pass_on()

        self.on(kind, rule)
        return hold

    def suggest_renewal(self, start: float, end: float) -> None:
        """Moves the renewal window of all certificates to these seconds from now, once asked."""

        def rule(_: Request, pass_on: Callable[[], Answer]) -> Answer:
            answer = pass_on()
            window = {"start": _moment(start), "end": _moment(end)}
            return document(
                answer.status, json.loads(answer.body) | {"suggestedWindow": window}, **{"Retry-After": "21600"}
            )

        self.on("renewal information", rule)

    def down(self) -> None:
        with suppress(OSError):
            super().down()

    stop = down


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
