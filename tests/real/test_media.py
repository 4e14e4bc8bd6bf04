"""Camera pictures and signed paths."""

import asyncio
import json
from urllib.parse import urlsplit

import aiohttp

from clients import Clients
from curl import Curl
from home_assistant import HomeAssistant
from pictures import picture, push
from websocket_api import logged_in


async def test_a_camera_stream_shows_each_new_picture_at_once(clients: Clients, home_assistant: HomeAssistant) -> None:
    camera, webhook = home_assistant.camera
    async with clients.http(token=home_assistant.token) as http:
        await push(http, webhook, picture(0))
        async with http.get(f"/api/states/{camera}") as answer:
            access = (await answer.json())["attributes"]["access_token"]
    async with clients.http() as browser, browser.get(f"/api/camera_proxy_stream/{camera}?token={access}") as stream:
        assert stream.status == 200
        assert stream.content_type == "multipart/x-mixed-replace"
        seen = b""
        for number in range(1, 6):
            await push(browser, webhook, picture(number))
            async with asyncio.timeout(10):
                while picture(number) not in seen:
                    seen += await stream.content.readany()


def test_a_camera_picture_needs_its_capability(curl: Curl, home_assistant: HomeAssistant) -> None:
    # A stranger is told so by the gate, and whoever is at home by Home Assistant.
    assert curl(f"/api/camera_proxy/{home_assistant.camera[0]}").status in (401, 403)


async def test_a_signed_path_gives_ranges_and_an_unsigned_one_nothing(
    clients: Clients, curl: Curl, home_assistant: HomeAssistant
) -> None:
    film = bytes(number % 251 for number in range(300_000))
    (home_assistant.config_directory / "media" / "film.mp4").write_bytes(film)
    async with logged_in(clients, home_assistant.token) as api:
        signed = (await api.result(type="auth/sign_path", path="/media/local/film.mp4"))["path"]

    for http in ("1.1", "2"):
        part = curl(signed, "--range", "100000-199999", http=http)
        assert (part.status, part.header("content-range")) == (206, "bytes 100000-199999/300000")
        assert part.body == film[100_000:200_000]
        assert curl(signed, http=http).body == film
        assert curl(urlsplit(signed).path, "--range", "0-99", http=http).status == 401


async def test_a_picture_is_uploaded_and_found_in_the_media_folder(clients: Clients, home_assistant: HomeAssistant) -> None:
    form = aiohttp.FormData()
    form.add_field("media_content_id", "media-source://media_source/local/")
    form.add_field("file", picture(9), filename="uploaded.jpg", content_type="image/jpeg")
    async with (
        clients.http(token=home_assistant.token) as http,
        http.post("/api/media_source/local_source/upload", data=form) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert "uploaded.jpg" in json.dumps(await answer.json())
    assert (home_assistant.config_directory / "media" / "uploaded.jpg").read_bytes() == picture(9)
