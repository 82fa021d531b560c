"""The auth driver `basic`: a user name and a password in every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_basic.driver import BasicAuth

__all__ = ["BasicAuth"]

__getattr__ = lazy_exports(__name__, {"BasicAuth": "driver"})
