"""The entry point of this package, so that Dockhand lists it among the installed plugins.

This module implements no hook. For each event, the receiver calls `dockhand_event` and the hook of
the event's class in other plugins.
"""
