"""The entry point of this package, so that Dockhand lists it among the installed plugins.

This module implements no hook. The Celery workers call the event hooks of other plugins.
"""
