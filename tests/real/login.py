"""The OAuth login as Home Assistant's own frontend does it."""

import aiohttp


class Login:
    """One login flow of one client application."""

    def __init__(self, http: aiohttp.ClientSession, application: str) -> None:
        self._http, self._application = http, application
        self._flow = ""

    async def begin(self) -> dict:
        answer = await self._post_json(
            "/auth/login_flow",
            handler=["homeassistant", None],
            redirect_uri=self._application + "?auth_callback=1",
        )
        self._flow = answer["flow_id"]
        return answer

    async def answer(self, user: str, password: str) -> dict:
        """Home Assistant says 200 to a wrong password too: the verdict is in the body."""
        return await self._post_json(f"/auth/login_flow/{self._flow}", username=user, password=password)

    async def token(self, **form: str) -> tuple[int, dict]:
        async with self._http.post("/auth/token", data={"client_id": self._application, **form}) as answer:
            return answer.status, await answer.json()

    async def revoke(self, refresh_token: str) -> int:
        async with self._http.post("/auth/revoke", data={"token": refresh_token}) as answer:
            return answer.status

    async def _post_json(self, path: str, **body: object) -> dict:
        async with self._http.post(path, json={"client_id": self._application, **body}) as answer:
            assert answer.status == 200, f"{path} answered {answer.status}: {await answer.text()}"
            return await answer.json()
