"""Referrers of a manifest, by the API and by the fallback tag."""

from __future__ import annotations

from dockhand_testing.contracts.referrers import ReferrerContract


class TestReferrers(ReferrerContract):
    """The contract, at every registry."""
