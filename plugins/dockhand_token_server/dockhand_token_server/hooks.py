"""What this package announces: that it is installed. It provides no driver; it asks for hooks.

The endpoint calls `dockhand_authenticate` and `dockhand_authorize` of other plugins.
"""
