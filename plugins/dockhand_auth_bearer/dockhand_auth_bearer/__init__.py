"""The auth driver `bearer`: one fixed token in every request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_bearer.driver import BearerAuth

__all__ = ["BearerAuth"]

__getattr__ = lazy_exports(__name__, {"BearerAuth": "driver"})
