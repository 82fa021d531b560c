"""Access control: the identity of a client, and what it may do."""

from dockhand_embedded.access.policy import Authenticate, Challenge, Identity, Verdict

__all__ = ["Authenticate", "Challenge", "Identity", "Verdict"]
