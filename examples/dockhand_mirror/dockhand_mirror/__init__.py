"""A plugin of Dockhand that copies every pushed tag to another registry."""
