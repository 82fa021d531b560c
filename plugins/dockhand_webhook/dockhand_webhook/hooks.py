"""Entry point of the package. It provides no driver; it only makes the package known as installed.

The receiver turns each notification into calls of `dockhand_event` and of the event class's hook.
"""
