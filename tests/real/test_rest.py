"""The REST API, over HTTP/1.1 and HTTP/2, by curl."""

import json

import pytest

from curl import Curl
from home_assistant import HomeAssistant

both_versions = pytest.mark.parametrize("http", ["1.1", "2"])


@both_versions
def test_reading(curl: Curl, home_assistant: HomeAssistant, http: str) -> None:
    token = home_assistant.token
    assert curl("/api/", http=http, token=token).json() == {"message": "API running."}
    states = curl("/api/states", http=http, token=token).json()
    assert home_assistant.camera[0] in {state["entity_id"] for state in states}
    services = curl("/api/services", http=http, token=token).json()
    assert "homeassistant" in {service["domain"] for service in services}


@both_versions
def test_writing(curl: Curl, home_assistant: HomeAssistant, http: str) -> None:
    token = home_assistant.token
    template = curl("/api/template", "--json", json.dumps({"template": "{{ 6 * 7 }}"}), http=http, token=token)
    assert (template.status, template.body) == (200, b"42")

    entity = f"/api/states/sensor.over_http_{http[0]}"
    state = json.dumps({"state": "21.5", "attributes": {"unit_of_measurement": "°C"}})
    assert curl(entity, "--json", state, http=http, token=token).status == 201
    assert curl(entity, http=http, token=token).json()["state"] == "21.5"
    assert curl(entity, "--request", "DELETE", http=http, token=token).status == 200
    assert curl(entity, http=http, token=token).status == 404


@both_versions
def test_without_a_good_token_nothing_is_answered(curl: Curl, http: str) -> None:
    for token in (None, "bad"):
        answer = curl("/api/states", http=http, token=token)
        assert answer.status == 401
        assert b"entity_id" not in answer.body


def test_a_webhook_takes_a_form_without_a_token(curl: Curl) -> None:
    assert curl("/api/webhook/gateway-test-hook", "--data", "temperature=21").status == 200


def test_the_longest_query_home_assistant_takes_passes(curl: Curl, home_assistant: HomeAssistant) -> None:
    assert curl("/api/?padding=" + "x" * 23_000, token=home_assistant.token).status == 200
    assert curl("/api/", "--header", "X-Padding: " + "x" * 24_000, token=home_assistant.token).status == 200
