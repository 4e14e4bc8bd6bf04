"""Nothing that any gate of these tests has written holds a secret that it was told."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

# The configuration holds them; the others are the stand-ins' own.
_NOT_OF_THE_GATE = {"hearthgate.yaml", "ballast"}


def _disguises(secret: str) -> set[bytes]:
    """As it is, and as it would be in a URL, in base64 and in hex."""
    plain = secret.encode()
    forms = {plain, quote(secret, safe="").encode(), base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    return forms | {plain.hex().encode(), plain[:20], plain[-20:]}


@pytest.mark.last
def test_no_secret_is_in_what_was_written(artifacts: Path, secrets_used: dict[str, str]) -> None:
    gates = list(artifacts.glob("scene-*/gate-*"))
    searched = [
        file for gate in gates for file in gate.rglob("*") if file.is_file() and file.name not in _NOT_OF_THE_GATE
    ]
    if not gates or not secrets_used:
        pytest.skip("no gate has run")
    contents = {file: file.read_bytes() for file in searched}
    found = [
        f"{what} in {file.relative_to(artifacts)}"
        for what, secret in secrets_used.items()
        for form in _disguises(secret)
        for file, content in contents.items()
        if form in content
    ]
    assert found == []
    # There was something to be found: every kind of output was searched, and the configurations hold secrets.
    names = {file.name for file in searched}
    assert {"gate.log", "access.log", "metrics", "printed"} <= names
    configurations = b"".join((gate / "hearthgate.yaml").read_bytes() for gate in gates)
    assert any(secret.encode() in configurations for secret in secrets_used.values())
