"""The auth driver `token`: the registry names an authority, and tokens are asked of it."""

from dockhand_auth_token.errors import CredentialsInvalid, RealmNotAllowed, TokenEndpointFailed

__all__ = ["CredentialsInvalid", "RealmNotAllowed", "TokenEndpointFailed"]
