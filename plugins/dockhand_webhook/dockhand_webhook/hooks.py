"""What this package announces: that it is installed. It provides no driver; it calls hooks.

Every notification that arrives becomes calls of `dockhand_event` and of its class's hook.
"""
