"""The auth driver `apikey`: an API key as the password of HTTP Basic, or in a chosen header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_apikey.driver import ApiKeyAuth

__all__ = ["ApiKeyAuth"]

__getattr__ = lazy_exports(__name__, {"ApiKeyAuth": "driver"})
