"""The headers of a notification, whatever the case of their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["EventHeaders"]


class EventHeaders(Mapping[str, str]):
    """Read-only headers; a name is found in any case, and of one that came twice the first."""

    __slots__ = ("_values",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in reversed(list(headers.items()))}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<EventHeaders {', '.join(self._values)}>"  # a value may be a secret
