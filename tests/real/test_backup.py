"""A backup of 1 GiB goes up and comes down whole, and the gate holds none of it."""

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curl import Curl
from gate import Gate
from home_assistant import HomeAssistant
from noise import sha256, write_noise

_SIZE = 1 << 30
_MOST_GROWTH = 16 << 20
_SLUG = "0badcafe"


@pytest.fixture
def backup(tmp_path: Path) -> Iterator[Path]:
    """A tar as Home Assistant makes them: `backup.json` and, not compressible, 1 GiB of content."""
    content, file = tmp_path / "homeassistant.tar.gz", tmp_path / "backup.tar"
    write_noise(content, _SIZE)
    about = {
        "slug": _SLUG, "version": 2, "name": "One gibibyte", "date": "2026-11-01T00:00:00+00:00", "type": "partial",
        "compressed": True, "folders": [], "addons": [], "repositories": [], "crypto": None, "protected": False,
        "homeassistant": {"version": "2025.4.4", "exclude_database": True}, "extra": {},
    }  # fmt: skip
    described = json.dumps(about).encode()
    with tarfile.open(file, "w") as tar:
        member = tarfile.TarInfo("./backup.json")
        member.size = len(described)
        tar.addfile(member, io.BytesIO(described))
        tar.add(content, "./homeassistant.tar.gz")
    content.unlink()
    yield file
    file.unlink()


class _Memory:
    """How far the gate's resident memory rises above where it stood, sampled and by the kernel's own peak."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Memory":
        self._gate.forget_peak_memory()
        self._before = self._most = self._gate.memory()
        self._sampler.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.05):
            self._most = max(self._most, self._gate.memory())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()
        self.growth = max(self._most, self._gate.peak_memory()) - self._before


def test_a_backup_of_one_gibibyte_goes_up_and_down_without_being_held(
    start_gate: Callable[..., Gate], curl_of: Callable[..., Curl], hosts: dict,
    home_assistant: HomeAssistant, backup: Path, tmp_path: Path, record_figure: Callable[[str, object], None],
) -> None:  # fmt: skip
    gate = start_gate(hosts)
    curl = curl_of(gate)
    token = home_assistant.token
    for _ in range(20):
        assert curl("/api/", token=token).status == 200

    with _Memory(gate) as upload:
        answer = curl(
            "/api/backup/upload?agent_id=backup.local", "--form", f"file=@{backup};type=application/x-tar",
            token=token, seconds=200,
        )  # fmt: skip
    assert answer.status == 201, answer.body
    backup_id = answer.json().get("backup_id", _SLUG) if answer.body else _SLUG

    downloaded = tmp_path / "downloaded.tar"
    with _Memory(gate) as download:
        path = f"/api/backup/download/{backup_id}?agent_id=backup.local"
        assert curl(path, token=token, seconds=200, output=downloaded).status == 200
    assert sha256(downloaded) == sha256(backup)
    downloaded.unlink()

    record_figure("backup upload: growth of the gate's memory, KiB", upload.growth >> 10)
    record_figure("backup download: growth of the gate's memory, KiB", download.growth >> 10)
    assert upload.growth < _MOST_GROWTH
    assert download.growth < _MOST_GROWTH
