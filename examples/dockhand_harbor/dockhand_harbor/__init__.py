"""The registry driver `harbor` for Dockhand, its clients, and the events of Harbor's webhooks."""

from dockhand_harbor.clients import AsyncHarborClient, HarborClient
from dockhand_harbor.errors import (
    AccessInvalid,
    Conflict,
    PolicyViolation,
    PreconditionFailed,
    StillReferenced,
)
from dockhand_harbor.models import Artifact, Project, RepositoryInfo, Robot, Tag

__all__ = [
    "AccessInvalid",
    "Artifact",
    "AsyncHarborClient",
    "Conflict",
    "HarborClient",
    "PolicyViolation",
    "PreconditionFailed",
    "Project",
    "RepositoryInfo",
    "Robot",
    "StillReferenced",
    "Tag",
]
