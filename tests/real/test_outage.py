"""Home Assistant is away, or does not know its proxy: visitors and the operator are told what they need."""

from collections.abc import Callable, Iterator

import pytest

from conftest import HOST
from curl import Curl
from gate import Gate
from home_assistant import HomeAssistant
from waiting import wait_for


@pytest.fixture(scope="module")
def stranger(request: pytest.FixtureRequest) -> Iterator[HomeAssistant]:
    """A Home Assistant that was not told of any proxy."""
    instance = HomeAssistant(request.config.getoption("--release"), "stranger", "--no-forwarded")
    yield instance
    instance.forget()


def test_the_operator_is_told_where_to_name_the_proxy_and_visitors_when_it_is_away(
    stranger: HomeAssistant, start_gate: Callable[..., Gate], curl_of: Callable[..., Curl], host_entry: Callable[..., dict]
) -> None:
    gate = start_gate({HOST: host_entry(stranger.url, "home_assistant")})
    curl = curl_of(gate)

    def log_says(*words: str) -> bool:
        return any(all(word in line for word in words) for line in gate.log().splitlines())

    # It refuses everything a proxy forwards.
    assert curl("/").status in (400, 502, 503)
    both_places = ("configuration.yaml", "trusted_proxies", "Settings > System > Network")
    wait_for("both places to name the proxy in", lambda: log_says(*both_places))

    stranger.stop()
    for http in ("1.1", "2"):
        page = curl("/lovelace", "--header", "Accept: text/html,application/xhtml+xml,*/*;q=0.8", http=http)
        assert (page.status, page.header("content-type").split(";")[0]) == (502, "text/html")
        assert b"<html" in page.body
        assert page.header("cache-control") == "no-store"
        # Nobody can be asked whether the token is good.
        answer = curl("/api/states", token=stranger.token, http=http)
        assert (answer.status, answer.header("content-type").split(";")[0]) == (503, "application/json")
        assert answer.header("retry-after") == "5"
        assert "message" in answer.json()
    posted = curl("/api/services/homeassistant/restart", "--json", "{}", token=stranger.token)
    assert posted.status == 503

    # The same instance again, now told of its proxy.
    stranger.start()
    wait_for("Home Assistant through the gate again", lambda: curl("/api/", token=stranger.token).status == 200)
    assert curl("/", "--header", "Accept: text/html").status == 200
