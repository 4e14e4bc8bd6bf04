"""Uploads larger than what proxies like to hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from curl import Answer, Curl
from home_assistant import HomeAssistant
from noise import write_noise

_SIZE = 17 << 20


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("upload") / "seventeen.bin"
    write_noise(file, _SIZE)
    yield file
    file.unlink()


def _arrived_whole(answer: Answer, upload: Path, home_assistant: HomeAssistant) -> bool:
    assert answer.status == 200, answer.body
    stored = home_assistant.upload_directory / answer.json()["file_id"] / upload.name
    return stored.read_bytes() == upload.read_bytes()


@pytest.mark.parametrize(
    ("http", "options"),
    [
        ("1.1", ["--header", "Expect:"]),
        ("1.1", ["--header", "Expect:", "--header", "Transfer-Encoding: chunked"]),
        ("2", []),
    ],
    ids=["with its length", "in chunks", "over HTTP/2"],
)
def test_17_mebibytes_arrive_whole(
    curl: Curl, home_assistant: HomeAssistant, upload: Path, http: str, options: list[str]
) -> None:
    answer = curl("/api/file_upload", "--form", f"file=@{upload}", *options, http=http, token=home_assistant.token)
    assert answer.version == http
    assert _arrived_whole(answer, upload, home_assistant)


def test_17_mebibytes_wait_for_100_continue(curl: Curl, home_assistant: HomeAssistant, upload: Path) -> None:
    answer = curl(
        "/api/file_upload", "--form", f"file=@{upload}", "--verbose",
        "--header", "Expect: 100-continue", "--expect100-timeout", "30", token=home_assistant.token,
    )  # fmt: skip
    assert "< HTTP/1.1 100" in answer.stderr, "no 100 Continue came"
    assert _arrived_whole(answer, upload, home_assistant)


def test_an_upload_nobody_is_allowed_ends_with_401(curl: Curl, upload: Path) -> None:
    _, answer = curl.attempt("/api/file_upload", "--form", f"file=@{upload}", "--header", "Expect: 100-continue")
    assert answer.status == 401
