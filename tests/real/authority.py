"""A certificate authority for the tests, made with openssl; clients trust it and nothing else."""

import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CertificateFiles:
    """A chain and its key, in certbot's layout."""

    chain: Path
    key: Path

    def replace_with(self, other: "CertificateFiles") -> None:
        """Puts another pair in place, each file in one step, as certbot does."""
        for mine, theirs in ((self.chain, other.chain), (self.key, other.key)):
            new = mine.with_suffix(".new")
            new.write_bytes(theirs.read_bytes())
            os.replace(new, mine)


class Authority:
    """Issues server certificates below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "authority.pem"
        self._key = directory / "authority.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate,
            "-days", "2", "-subj", "/CN=Hearthgate test authority",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, directory_name: str, *names: str) -> CertificateFiles:
        """A fresh key and a certificate for `names`, in a directory of their own."""
        directory = self._directory / directory_name
        directory.mkdir(parents=True)
        files = CertificateFiles(directory / "fullchain.pem", directory / "privkey.pem")
        request, extensions, leaf = directory / "request.pem", directory / "extensions", directory / "cert.pem"
        extensions.write_text(
            "subjectAltName=" + ",".join(map(_alternative, names)) + "\n"
            "extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"
        )
        _openssl("req", *_NEW_KEY, "-keyout", files.key, "-out", request, "-subj", f"/CN={names[0]}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extensions, "-out", leaf,
        )  # fmt: skip
        files.chain.write_bytes(leaf.read_bytes() + self.certificate.read_bytes())
        return files

    def context(self) -> ssl.SSLContext:
        """A client's settings that trust this authority only."""
        return ssl.create_default_context(cafile=str(self.certificate))


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _alternative(name: str) -> str:
    is_address = ":" in name or name.replace(".", "").isdecimal()
    return f"IP:{name}" if is_address else f"DNS:{name}"


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
