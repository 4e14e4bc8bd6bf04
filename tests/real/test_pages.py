"""The login page and everything it loads."""

import asyncio
import re

import aiohttp

from clients import Clients
from curl import Curl
from home_assistant import HomeAssistant

_LINKS = re.compile(r"""(?:src|href|content)=["']?(/[^"'> ]+)""")
_MODULES = re.compile(r"""["'`](/(?:frontend_latest|frontend_es5|static)/[^"'`]+)["'`]""")
# A browser asks for these besides what the page names.
_ALWAYS = {"/manifest.json", "/service_worker.js", "/sw-modern.js", "/robots.txt", "/auth/providers"}


async def _fetch(http: aiohttp.ClientSession, path: str, encoding: str) -> tuple[int, str | None, str | None, bytes]:
    """The answer's status, type, coding and undecoded body."""
    async with http.get(path, headers={"Accept-Encoding": encoding}, allow_redirects=False) as answer:
        headers = answer.headers
        return answer.status, headers.get("Content-Type"), headers.get("Content-Encoding"), await answer.read()


async def _assets(http: aiohttp.ClientSession) -> set[str]:
    """What the front page and the login page name, and what those scripts name first."""
    found = set(_ALWAYS)
    login = "/auth/authorize?response_type=code&client_id=x&redirect_uri=x"
    for page in ("/", login):
        status, _, _, body = await _fetch(http, page, "identity")
        assert status == 200, page
        found |= set(_LINKS.findall(body.decode())) | set(_MODULES.findall(body.decode()))
    return {path for path in found if not path.endswith("/") and "{" not in path}


async def test_the_login_page_and_all_its_assets_arrive_unchanged(clients: Clients, home_assistant: HomeAssistant) -> None:
    async with clients.http() as through, aiohttp.ClientSession(home_assistant.url, auto_decompress=False) as direct:
        through._auto_decompress = False
        assets = await _assets(direct)
        assert any(path.startswith("/frontend_latest/") and path.endswith(".js") for path in assets), assets
        assert len(assets) > 15, assets
        for encoding in ("gzip, deflate, br", "identity"):
            for path in sorted(assets):
                ours, theirs = await asyncio.gather(_fetch(through, path, encoding), _fetch(direct, path, encoding))
                assert theirs[0] in (200, 302), f"{path} answered {theirs[0]} without the gate"
                assert ours == theirs, f"{path} differs through the gate"


def test_pages_arrive_over_http2_too(curl: Curl) -> None:
    answer = curl("/", http="2")
    assert (answer.status, answer.version) == (200, "2")
    assert b"home-assistant" in answer.body
    assert curl("/manifest.json", http="2").json()["name"] == "Home Assistant"


def test_the_upstream_is_not_named(curl: Curl) -> None:
    for http in ("1.1", "2"):
        answer = curl("/", http=http)
        assert "aiohttp" not in (answer.header("server") or "")
        assert answer.header("x-powered-by") is None


def test_a_page_comes_with_the_usual_security_headers(curl: Curl) -> None:
    answer = curl("/")
    assert "max-age=" in answer.header("strict-transport-security")
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("x-frame-options") == "SAMEORIGIN"


def test_an_unchanged_asset_is_not_sent_again(curl: Curl) -> None:
    first = curl("/static/icons/favicon.ico")
    assert first.status == 200
    again = curl("/static/icons/favicon.ico", "--header", f"If-None-Match: {first.header('etag')}")
    assert (again.status, again.body) == (304, b"")


def test_head_of_an_asset_has_its_length_and_no_body(curl: Curl) -> None:
    whole = curl("/static/icons/favicon.ico")
    for http in ("1.1", "2"):
        head = curl("/static/icons/favicon.ico", "--head", http=http)
        assert (head.status, head.header("content-length")) == (200, str(len(whole.body)))
