"""Everything that Home Assistant answers to somebody who has no session: what is a guess, and what only looks like one.

The numbers are the same in both tables wherever rows belong together. Both releases answer alike unless a row says so.
Row 5, a second factor after five minutes, is not here: it would take them.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from curl import Answer
from home_assistant import HomeAssistant
from household import Household
from outsider import Outsider, fresh_address, fresh_secret, time_code

_NO_FLOW = "0123456789abcdef0123456789abcdef"
_ELSEWHERE = "https://elsewhere.example.test/"


@dataclass(frozen=True)
class Scene:
    """Whom the rows are about."""

    home_assistant: HomeAssistant
    household: Household


# Does what must come before, and returns the request that is looked at.
Prepare = Callable[[Scene, Outsider], Callable[[], Answer]]


@dataclass(frozen=True)
class Row:

    number: int
    name: str
    status: int
    says: bytes
    prepare: Prepare
    # Of the attempt that fails, in the gate's metric; none if the row is harmless.
    kind: str | None = None
    only_newest: bool = False

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


# ---------------------------------------------------------------- logging in
def _wrong_password(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.step(flow, username=scene.home_assistant.user, password=fresh_secret())


def _unknown_user(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.step(flow, username=fresh_secret(8), password=fresh_secret())


def _at_second_factor(scene: Scene, outsider: Outsider) -> str:
    user = scene.home_assistant.second_factor_user
    flow = outsider.begin()
    answer = outsider.step(flow, username=user["user"], password=user["password"])
    assert answer.json()["step_id"] == "mfa", answer.body
    return flow


def _wrong_code(scene: Scene, outsider: Outsider, before: int) -> Callable[[], Answer]:
    flow, secret = _at_second_factor(scene, outsider), scene.home_assistant.second_factor_user["secret"]
    for number in range(before):
        refused = outsider.step(flow, code=time_code(secret, wrong=number + 1))
        assert b'"invalid_code"' in refused.body, (refused.status, refused.body)
    return lambda: outsider.step(flow, code=time_code(secret, wrong=before + 1))


def _finished_flow(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    guest = {"username": scene.household.guest, "password": scene.household.password}
    assert outsider.step(flow, **guest).json()["type"] == "create_entry"
    return lambda: outsider.step(flow, **guest)


def _aborted_flow(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    assert outsider.ask(f"/auth/login_flow/{flow}", "--request", "DELETE").status == 200
    return lambda: outsider.step(flow, username=fresh_secret(8), password=fresh_secret())


def _right_password_before_a_code(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow, user = outsider.begin(), scene.home_assistant.second_factor_user
    return lambda: outsider.step(flow, username=user["user"], password=user["password"])


def _right_code(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow, secret = _at_second_factor(scene, outsider), scene.home_assistant.second_factor_user["secret"]
    return lambda: outsider.step(flow, code=time_code(secret))


def _right_password(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.step(flow, username=scene.household.guest, password=scene.household.password)


def _from_another_address(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    other = Outsider(outsider.curl, outsider.application, fresh_address(), outsider.http)
    return lambda: other.step(flow, username=scene.household.guest, password=scene.household.password)


def _missing_field(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.step(flow, username=fresh_secret(8))


def _raw_step(body: str) -> Prepare:
    def prepare(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
        flow = outsider.begin()
        return lambda: outsider.post_json(f"/auth/login_flow/{flow}", body)

    return prepare


def _beginning_with(**fields: object) -> Prepare:
    return lambda _, outsider: lambda: outsider.post_json("/auth/login_flow", outsider.beginning(**fields))


def _flow_is_read(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.ask(f"/auth/login_flow/{flow}")


def _return_to_another_host(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin(redirect_uri=_ELSEWHERE)
    return lambda: outsider.step(flow, username=scene.household.guest, password=scene.household.password)


def _local_only_user(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    flow = outsider.begin()
    return lambda: outsider.step(flow, username=scene.household.at_home, password=scene.household.password)


# ---------------------------------------------------------------- tokens
def _token(**fields: str) -> Prepare:
    return lambda _, outsider: lambda: outsider.token(**{"code": fresh_secret(), **fields})


def _used_code(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    code = outsider.code(scene.household.guest, scene.household.password)
    assert outsider.token(grant_type="authorization_code", code=code).status == 200
    return lambda: outsider.token(grant_type="authorization_code", code=code)


def _code_of_another_application(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    code = outsider.code(scene.household.guest, scene.household.password)
    return lambda: outsider.token(grant_type="authorization_code", code=code, client_id=_ELSEWHERE)


def _wrong_verifier(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    digest = hashlib.sha256(b"the right verifier, which has at least 43 characters").digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    code = outsider.code(
        scene.household.guest, scene.household.password, code_challenge=challenge, code_challenge_method="S256"
    )
    return lambda: outsider.token(grant_type="authorization_code", code=code, code_verifier=fresh_secret(50))


def _unknown_refresh_token(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    return lambda: outsider.refresh(fresh_secret(128))


def _revoked_refresh_token(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    tokens = scene.household.revoked_tokens(outsider.application)
    return lambda: outsider.refresh(tokens["refresh_token"])


def _refresh_token_of_another_application(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
    tokens = scene.household.tokens(outsider.application)
    return lambda: outsider.refresh(tokens["refresh_token"], client_id=_ELSEWHERE)


def _json_token(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    body = {"grant_type": "refresh_token", "refresh_token": fresh_secret(128), "client_id": outsider.application}
    return lambda: outsider.post_json("/auth/token", body)


def _field_twice(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    twice = f"grant_type=refresh_token&refresh_token={fresh_secret(128)}&refresh_token={fresh_secret(128)}"
    return lambda: outsider.ask("/auth/token", "--data", f"{twice}&client_id={outsider.application}")


# ---------------------------------------------------------------- what a session opens
def _bearer(make: Callable[[Scene, Outsider], str], target: str = "/api/states", *options: str) -> Prepare:
    def prepare(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
        authorization = make(scene, outsider)
        return lambda: outsider.ask(target, "--header", f"Authorization: {authorization}", *options)

    return prepare


def _camera(*, stream: bool = False, token: Callable[[], str] | None = None, bearer: bool = False) -> Prepare:
    def prepare(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
        target = f"/api/camera_proxy{'_stream' if stream else ''}/{scene.home_assistant.camera[0]}"
        query = f"?token={token()}" if token else ""
        options = ("--header", f"Authorization: Bearer {fresh_secret()}") if bearer else ()
        return lambda: outsider.ask(target + query, *options)

    return prepare


def _signature(of: str, asked: str) -> Prepare:
    def prepare(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
        signature = scene.household.signed(of).split("authSig=")[1]
        return lambda: outsider.ask(f"{asked}?authSig={signature}")

    return prepare


def _made_up_signature(_: Scene, outsider: Outsider) -> Callable[[], Answer]:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()).decode().rstrip("=")
    return lambda: outsider.ask(f"/api/backup/download/1?authSig={head}.{fresh_secret()}.{fresh_secret()}")


def _no_administrator(target: str) -> Prepare:
    def prepare(scene: Scene, outsider: Outsider) -> Callable[[], Answer]:
        token = scene.household.tokens(outsider.application, scene.household.guest)["access_token"]

        def ask() -> Answer:
            answer = outsider.ask(target, token=token)
            assert outsider.ask("/api/", token=token).status == 200, "the token is good, and stays so"
            return answer

        return ask

    return prepare


def _ask(target: str, *options: str) -> Prepare:
    return lambda _, outsider: lambda: outsider.ask(target.replace("SECRET", fresh_secret(64)), *options)


def _capability(of: str) -> Prepare:
    return lambda _, outsider: lambda: outsider.ask(of.replace("SECRET", fresh_secret()))


GUESSES = [
    Row(1, "wrong password", 200, b'"invalid_auth"', _wrong_password, "password"),
    Row(2, "unknown user", 200, b'"invalid_auth"', _unknown_user, "password"),
    Row(3, "wrong code", 200, b'"invalid_code"', lambda *who: _wrong_code(*who, before=0), "second_factor"),
    Row(4, "fifth wrong code", 200, b'"too_many_retry"', lambda *who: _wrong_code(*who, before=4), "second_factor"),
    Row(8, "unknown login", 404, b"Invalid flow specified",
        lambda _, o: lambda: o.step(fresh_secret(), username="owner", password=fresh_secret()), "password"),
    Row(8, "code for an unknown login", 404, b"Invalid flow specified",
        lambda _, o: lambda: o.step(fresh_secret(), code="123456"), "second_factor"),
    Row(8, "finished login", 404, b"Invalid flow specified", _finished_flow, "password"),
    Row(8, "aborted login", 404, b"Invalid flow specified", _aborted_flow, "password"),
    Row(16, "bad authorization code", 400, b"Invalid code", _token(grant_type="authorization_code"), "token"),
    Row(16, "used authorization code", 400, b"Invalid code", _used_code, "token"),
    Row(16, "authorization code of another application", 400, b"Invalid code", _code_of_another_application, "token"),
    Row(16, "wrong code verifier", 400, b"Invalid code verifier", _wrong_verifier, "token", only_newest=True),
    Row(17, "unknown refresh token", 400, b"invalid_grant", _unknown_refresh_token, "token"),
    Row(17, "revoked refresh token", 400, b"invalid_grant", _revoked_refresh_token, "token"),
    Row(18, "refresh token of another application", 400, b"invalid_request", _refresh_token_of_another_application,
        "token"),
    Row(18, "unsupported grant", 400, b"unsupported_grant_type", _token(grant_type="password", password="x"), "token"),
    Row(18, "token asked for in JSON", 400, b"error", _json_token, "token"),
    Row(18, "field twice", 400, b"invalid_request", _field_twice, "token", only_newest=True),
    Row(19, "bad bearer", 401, b"", _bearer(lambda *_: f"Bearer {fresh_secret()}"), "bearer"),
    Row(19, "bad bearer, posting", 401, b"",
        _bearer(lambda *_: f"Bearer {fresh_secret()}", "/api/services/light/turn_on", "--json", "{}"), "bearer"),
    Row(19, "bad bearer at a path that is none", 401, b"",
        _bearer(lambda *_: f"Bearer {fresh_secret()}", "/api/nothing/here"), "bearer"),
    Row(19, "expired bearer", 401, b"", _bearer(lambda s, _: f"Bearer {s.household.expired_access_token()}"), "bearer"),
    Row(19, "revoked bearer", 401, b"",
        _bearer(lambda s, o: f"Bearer {s.household.revoked_tokens(o.application)['access_token']}"), "bearer"),
    Row(19, "Basic", 401, b"", _bearer(lambda *_: f"Basic {base64.b64encode(fresh_secret().encode()).decode()}"), "basic"),
    Row(19, "bearer in lower case", 401, b"",
        _bearer(lambda s, o: f"bearer {s.household.tokens(o.application)['access_token']}"), "bearer"),
    Row(19, "made up signature", 401, b"", _made_up_signature, "signed_path"),
    Row(19, "signature of another path", 401, b"",
        _signature("/media/local/film.mp4", "/media/local/other.mp4"), "signed_path"),
    Row(21, "camera, bad token", 403, b"", _camera(token=fresh_secret), "capability"),
    Row(21, "camera stream, bad token", 403, b"", _camera(stream=True, token=fresh_secret), "capability"),
    Row(22, "camera, bad bearer", 401, b"", _camera(bearer=True), "bearer"),
    Row(22, "camera, bad bearer and bad token", 401, b"", _camera(bearer=True, token=fresh_secret), "bearer"),
]  # fmt: skip

HARMLESS = [
    Row(6, "right password before a code", 200, b'"mfa"', _right_password_before_a_code),
    Row(7, "right password", 200, b'"create_entry"', _right_password),
    Row(7, "right code", 200, b'"create_entry"', _right_code),
    Row(9, "login goes on from another address", 400, b"IP address changed", _from_another_address),
    Row(10, "field missing", 400, b"User input malformed", _missing_field),
    Row(11, "no client_id", 400, b"", _raw_step('{"username":"owner","password":"x"}')),
    Row(11, "not JSON", 400, b"", _raw_step("username=owner&password=x")),
    Row(12, "bad client_id", 400, b"Invalid client id", _beginning_with(client_id="not an address")),
    Row(13, "unknown provider", 0, b"", _beginning_with(handler=["nobody", None])),
    Row(13, "login read", 0, b"", _flow_is_read),
    # 403; 500 where the application's page, which may name other hosts, cannot be fetched.
    Row(14, "return to another host", 0, b"", _return_to_another_host),
    Row(15, "user for the house only", 403, b"Login blocked", _local_only_user),
    Row(20, "no administrator, error log", 401, b"", _no_administrator("/api/error_log")),
    Row(20, "no administrator, events", 401, b"", _no_administrator("/api/stream")),
    Row(27, "unknown token given back", 200, b"", lambda _, o: lambda: o.post_form("/auth/revoke", token=fresh_secret(128))),
    Row(28, "unknown webhook, GET", 200, b"", _ask("/api/webhook/SECRET")),
    Row(28, "unknown webhook, HEAD", 200, b"", _ask("/api/webhook/SECRET", "--head")),
    Row(28, "unknown webhook, POST", 200, b"", _ask("/api/webhook/SECRET", "--json", "{}")),
    Row(28, "unknown webhook, PUT", 200, b"", _ask("/api/webhook/SECRET", "--request", "PUT", "--data", "x")),
    Row(29, "webhook, another method", 405, b"", _ask("/api/webhook/gateway-test-hook")),
    Row(30, "unknown speech", 404, b"", _capability("/api/tts_proxy/SECRET.mp3")),
    Row(30, "unknown stream", 404, b"", _capability("/api/hls/SECRET/master_playlist.m3u8")),
    Row(30, "unknown picture", 404, b"", _capability("/api/image/serve/SECRET/512x512")),
]  # fmt: skip
