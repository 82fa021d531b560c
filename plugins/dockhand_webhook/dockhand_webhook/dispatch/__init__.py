"""The dispatcher, which delivers the events of the inbox to handlers."""
