"""The dispatcher, which calls handlers with the events of the inbox."""
