"""A state directory on a disk that is full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from name_servers import PLAIN
from scene import Scene

_SIZE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=700", "none", directory], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def _fill(disk: Path) -> Path:
    """Takes what is left."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            for size in (4096, 1):
                while file.write(bytes(size)):
                    pass
        except OSError:
            pass
    with pytest.raises(OSError):
        (disk / "more").write_text("x")
    (disk / "more").unlink(missing_ok=True)
    return ballast


def test_a_new_certificate_that_cannot_be_written_leaves_the_old_one(scene: Scene, small_disk: Path) -> None:
    name = f"full.{PLAIN}"
    gate = scene.start_gate(name, state_directory=str(small_disk))
    first = gate.wait_for_certificate(name)
    before = (gate.state / f"{name}.pem").read_bytes()
    ballast = _fill(small_disk)
    said = gate.fail_to_renew(name)
    assert "the state directory cannot be written" in said and "No space left on device" in said
    assert gate.shown(name) == first
    assert (gate.state / f"{name}.pem").read_bytes() == before
    os.unlink(ballast)
    gate.renew(name)
    assert gate.shown(name) not in (None, first)


def test_the_first_certificate_comes_when_there_is_room_again(scene: Scene, small_disk: Path) -> None:
    name = f"full.{PLAIN}"
    scene.front.down()
    gate = scene.start_gate(name, state_directory=str(small_disk))
    gate.wait_for_log("WARN", "the authority does not answer")
    ballast = _fill(small_disk)
    scene.front.up()
    said = gate.fail_to_renew(name)
    assert "No space left on device" in said and gate.is_self_signed(name)
    os.unlink(ballast)
    gate.renew(name)
    assert gate.shown(name)
