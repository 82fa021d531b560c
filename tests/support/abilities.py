"""The table of abilities: what each registry of the contract suite can do.

If a registry lacks an ability, its test checks the result or the error that the client gives there.
"""

from __future__ import annotations

from dataclasses import replace

from dockhand_testing import Abilities

__all__ = ["ABILITIES"]


_DISTRIBUTION = Abilities(has_referrers=False, signs_uploads=True)

ABILITIES: dict[str, Abilities] = {
    "embedded": Abilities(has_logins=False),
    "distribution-2.8": replace(_DISTRIBUTION, deletes_tags=False),
    "distribution-3.1": _DISTRIBUTION,
    "zot": Abilities(names_missing_blobs=False),
    "crane": Abilities(
        has_logins=False,
        has_tokens=False,
        has_referrers=False,
        untags=False,
        checks_manifests=False,
        mounts_blobs=False,
        reports_missing_blobs=False,
        has_upload_status=False,
    ),
}
"""The abilities of each registry, by the name that is also the folder of its cassettes."""
