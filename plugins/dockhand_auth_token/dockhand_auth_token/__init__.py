"""The auth driver `token`, which gets tokens from the authority that the registry names."""

from dockhand_auth_token.errors import CredentialsInvalid, RealmNotAllowed, TokenEndpointFailed

__all__ = ["CredentialsInvalid", "RealmNotAllowed", "TokenEndpointFailed"]
