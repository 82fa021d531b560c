"""What this package announces: that it is installed. It provides no driver.

It has the event hooks of other plugins called by Celery's workers.
"""
