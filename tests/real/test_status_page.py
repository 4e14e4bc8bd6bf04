"""The operator's browser: Debian's Chromium reads the status page, lifts a ban, and is no tool of other pages."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ECHO_HOST
from echo import Echo
from gate import Gate

_BROWSER = Path(__file__).parent / "browser"
_BANNED, _OTHER, _KEPT = "203.0.113.0/24", "198.51.100.7/32", "192.0.2.0/24"


@pytest.fixture(scope="module")
def visited_gate(_gates: Callable[..., Gate], echo: Echo, host_entry: Callable[..., dict]) -> Gate:
    gate = _gates("status page", {ECHO_HOST: host_entry(echo.url, "generic")})
    for network in (_BANNED, _OTHER, _KEPT):
        gate.bans("add", network, "--for", "1h", "--reason", "<script>alert(1)</script>")
    return gate


@pytest.fixture(scope="module")
def visit(visited_gate: Gate, artifacts: Path) -> dict:
    done = subprocess.run(
        ["node", "status-page.mjs", visited_gate.admin_url, _BANNED, _OTHER, artifacts],
        cwd=_BROWSER, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_page_loads_and_refreshes_without_one_complaint(visit: dict) -> None:
    assert (visit["console"], visit["failed"]) == ([], [])
    assert visit["headings"] == ["Is the door open?", "Who knocks?", "How does it feel?"]
    assert visit["refreshes"] >= 1


def test_a_click_lifts_a_ban_and_only_that(visit: dict, visited_gate: Gate) -> None:
    assert (visit["bannedBefore"], visit["unbanned"], visit["bannedAfter"]) == (1, 303, 0)
    left = {ban["network"] for ban in json.loads(visited_gate.bans("list", "--json"))["bans"]}
    assert left == {_KEPT}


def test_a_page_from_elsewhere_lifts_none_even_if_it_knew_the_token(visit: dict) -> None:
    assert visit["elsewhere"] == [403, 403]


def test_a_name_that_was_rebound_to_the_listener_is_refused(visit: dict) -> None:
    assert visit["rebound"] == 421


def test_it_works_without_javascript_and_on_a_narrow_screen(visit: dict) -> None:
    assert visit["plainCharts"] >= 6
    assert _OTHER not in visit["plainBans"] and _KEPT in visit["plainBans"]
    assert visit["width"] <= 360
