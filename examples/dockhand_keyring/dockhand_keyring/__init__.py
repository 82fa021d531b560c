"""The auth driver `keyring` for Dockhand, which takes passwords from the system's key store."""
