"""Bytes that do not compress, made quickly and without keeping them in memory."""

import hashlib
import random
from pathlib import Path

_BLOCK = 1 << 20


def write_noise(file: Path, size: int) -> None:
    """Fills `file` with `size` random bytes, the same for each run."""
    source = random.Random(size)
    with open(file, "wb") as out:
        for start in range(0, size, _BLOCK):
            out.write(source.randbytes(min(_BLOCK, size - start)))


def sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
