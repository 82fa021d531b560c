"""Entry point of the package. It provides no driver; it only makes the package known as installed.

Celery's workers call the event hooks of other plugins.
"""
