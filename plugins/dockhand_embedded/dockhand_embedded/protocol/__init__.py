"""The endpoints of the OCI Distribution Specification, for any kind of storage."""
