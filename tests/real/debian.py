"""Programs of Debian's that are looked at, not installed: their packages unpacked beside the tests."""

import subprocess
from pathlib import Path

import pytest

_KEPT = Path(__file__).parents[2] / "target" / "real" / "packages"


def unpacked(package: str) -> Path:
    """Where the files of `package` are; skips the test where there is no such package."""
    directory = _KEPT / package
    if not directory.exists():
        download = _KEPT / "download"
        download.mkdir(parents=True, exist_ok=True)
        done = _run("apt-get", "--quiet", "download", package, directory=download)
        files = sorted(download.glob(f"{package}_*.deb"))
        if done is None or done.returncode != 0 or not files:
            pytest.skip(f"no package {package} here")
        done = _run("dpkg", "--extract", str(files[-1]), str(directory), directory=download)
        assert done is not None and done.returncode == 0, done
    return directory


def _run(*command: str, directory: Path) -> subprocess.CompletedProcess | None:
    try:
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        return None
