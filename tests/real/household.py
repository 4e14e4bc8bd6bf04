"""Home Assistant spoken to directly, behind the gate's back: its people, and tokens that the gate has never seen."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import urllib.parse
import urllib.request

from websockets.asyncio.client import connect

from home_assistant import HomeAssistant
from waiting import wait_for
from websocket_api import HomeAssistantSocket

_PASSWORD = "a long enough password"


class Household:
    """The owner and two who are no administrators; `at_home` may only log in from within the house."""

    def __init__(self, home_assistant: HomeAssistant) -> None:
        self._instance = home_assistant
        self.guest, self.at_home, self.password = "guest", "at-home", _PASSWORD
        asyncio.run(self._create())

    async def _create(self) -> None:
        for name, local_only in ((self.guest, False), (self.at_home, True)):
            user = await self._command(
                type="config/auth/create", name=name, group_ids=["system-users"], local_only=local_only
            )
            await self._command(
                type="config/auth_provider/homeassistant/create",
                user_id=user["user"]["id"], username=name, password=_PASSWORD,
            )  # fmt: skip

    async def _command(self, **message: object) -> object:
        """One command of the owner's."""
        async with connect(self._instance.url.replace("http:", "ws:") + "/api/websocket", proxy=None) as websocket:
            api = HomeAssistantSocket(websocket)
            await api.authenticate(self._instance.token)
            return await api.result(**message)

    def command(self, **message: object) -> object:
        return asyncio.run(self._command(**message))

    def tokens(self, application: str, user: str | None = None, password: str = _PASSWORD) -> dict:
        """Logs in directly, the owner if nobody is named; the answer of `/auth/token`."""
        user, password = (user, password) if user else (self._instance.user, self._instance.password)
        start = {"client_id": application, "handler": ["homeassistant", None], "redirect_uri": application}
        flow = self._post("/auth/login_flow", json.dumps(start).encode())["flow_id"]
        form = {"client_id": application, "username": user, "password": password}
        code = self._post(f"/auth/login_flow/{flow}", json.dumps(form).encode())["result"]
        return self._post("/auth/token", _form(client_id=application, grant_type="authorization_code", code=code))

    def revoke(self, refresh_token: str) -> None:
        self._post("/auth/revoke", _form(token=refresh_token))

    def revoked_tokens(self, application: str) -> dict:
        tokens = self.tokens(application)
        self.revoke(tokens["refresh_token"])
        return tokens

    def expired_access_token(self) -> str:
        """Signed by the key of the owner's long-lived token, as good as that, and of last week."""
        mine = json.loads(_unpack(self._instance.token.split(".")[1]))["iss"]

        def key() -> str | None:
            stored = json.loads((self._instance.config_directory / ".storage" / "auth").read_text())
            return next((token["jwt_key"] for token in stored["data"]["refresh_tokens"] if token["id"] == mine), None)

        secret = wait_for("Home Assistant has written its tokens down", key)
        then = int(time.time()) - 7 * 86_400
        head = _pack({"alg": "HS256", "typ": "JWT"}) + "." + _pack({"iss": mine, "iat": then, "exp": then + 1800})
        signature = hmac.new(secret.encode(), head.encode(), hashlib.sha256).digest()
        return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def signed(self, path: str) -> str:
        return self.command(type="auth/sign_path", path=path)["path"]

    def camera_token(self) -> str:
        """The capability of the push camera's picture."""
        camera = self._instance.camera[0]
        states = self.command(type="get_states")
        return next(state for state in states if state["entity_id"] == camera)["attributes"]["access_token"]

    def _post(self, path: str, body: bytes) -> dict:
        with urllib.request.urlopen(self._instance.url + path, data=body, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else {}


def _form(**fields: str) -> bytes:
    return urllib.parse.urlencode(fields).encode()


def _pack(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _unpack(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
