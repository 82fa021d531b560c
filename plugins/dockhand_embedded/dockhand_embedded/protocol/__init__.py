"""The Distribution Specification, over any storage."""
