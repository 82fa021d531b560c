"""The errors that only Harbor has. Its other error codes mean what their HTTP status means."""

from __future__ import annotations

from dockhand_core import DockhandError, RegistryError

__all__ = ["AccessInvalid", "Conflict", "PolicyViolation", "PreconditionFailed", "StillReferenced"]


class Conflict(RegistryError, code="CONFLICT"):
    """The object exists already, such as a project of this name."""


class PreconditionFailed(RegistryError, code="PRECONDITION"):
    """The object is in a state that forbids this: an immutable tag, a project that is not empty."""


class PolicyViolation(PreconditionFailed, code="PROJECTPOLICYVIOLATION"):
    """The project's policy forbids to pull this image, such as one with vulnerabilities."""


class StillReferenced(PreconditionFailed, code="VIOLATE_FOREIGN_KEY_CONSTRAINT"):
    """The object cannot be deleted while others refer to it, such as an image in an index."""


class AccessInvalid(DockhandError, ValueError):
    """A right of a robot account is not of the form `resource:action`."""
