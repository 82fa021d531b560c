"""The auth driver `token`, which gets tokens from the authority that the registry names.

The package also stores and erases credentials where docker and podman look for them.
"""

from typing import TYPE_CHECKING

from dockhand_auth_token.errors import CredentialsInvalid, RealmNotAllowed, TokenEndpointFailed
from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_auth_token.credentials import Credentials, credentials_file, find_credentials
    from dockhand_auth_token.keys import registry_key
    from dockhand_auth_token.store import (
        StoredCredentials,
        erase_credentials,
        store_credentials,
    )

__all__ = [
    "Credentials",
    "CredentialsInvalid",
    "RealmNotAllowed",
    "StoredCredentials",
    "TokenEndpointFailed",
    "credentials_file",
    "erase_credentials",
    "find_credentials",
    "registry_key",
    "store_credentials",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Credentials": "credentials",
        "StoredCredentials": "store",
        "credentials_file": "credentials",
        "erase_credentials": "store",
        "find_credentials": "credentials",
        "registry_key": "keys",
        "store_credentials": "store",
    },
)
