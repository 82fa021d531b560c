"""The dispatcher, which has handlers called with the events of the inbox."""
