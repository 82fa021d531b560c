"""Host names for tests: answers of `socket.getaddrinfo` that may differ from look-up to look-up."""

from __future__ import annotations

import socket
from typing import Any

import pytest

_REAL = socket.getaddrinfo


class FakeDNS:
    """The answers for host names; IP addresses are left to the real `getaddrinfo`.

    Attributes:
        names: the answers for each name, one for each look-up; the last one is repeated.
        lookups: the names that were looked up, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.lookups: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def add(self, name: str, *answers: list[str]) -> None:
        """Set the answers for a name."""
        self.names[name] = list(answers)

    def _getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        text = host.decode("ascii") if isinstance(host, bytes) else str(host)
        if text not in self.names:
            return _REAL(host, port, *args, **options)
        self.lookups.append(text)
        answers = self.names[text]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for each in found for entry in _REAL(each, port, *args, **options)[:1]]
