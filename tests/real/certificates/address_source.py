"""A stand-in for the services that tell a home its public address, over both families."""

import ssl

from authority import CertificateFiles
from web import Answer, Request, Web, plain


class AddressSource(Web):
    """Answers `/4` and `/6` with what a test says; the gate must ask each over that family."""

    def __init__(self, files: CertificateFiles) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        self.ipv4, self.ipv6 = "198.51.99.7", "2600:1f18::7"
        self.asked = 0
        super().__init__(context)

    def url(self, family: int) -> str:
        # Not `localhost`, which has no IPv6 address on some machines.
        return f"https://{'127.0.0.1' if family == 4 else '[::1]'}:{self.port}/{family}"

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        return plain((self.ipv4 if request.path == "/4" else self.ipv6) + "\n")
