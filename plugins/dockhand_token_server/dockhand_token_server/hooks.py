"""The entry point of this package, so that Dockhand lists it among the installed plugins.

This module implements no hook. The token endpoint calls the hooks `dockhand_authenticate` and
`dockhand_authorize` of other plugins.
"""
