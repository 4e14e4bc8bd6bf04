"""Ports of our own on loopback, below the range the system uses for outgoing connections."""

import random
import socket

_LOWEST, _HIGHEST = 20_000, 32_000
_taken: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, on 127.0.0.1 and on ::1, and that was not given out before."""
    for _ in range(1_000):
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in _taken and _can_bind(socket.AF_INET, "127.0.0.1", port) and _can_bind(socket.AF_INET6, "::1", port):
            _taken.add(port)
            return port
    raise RuntimeError(f"no free port between {_LOWEST} and {_HIGHEST}")


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
