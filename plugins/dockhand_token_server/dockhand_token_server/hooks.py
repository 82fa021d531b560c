"""The entry point of this package, which lists it among the installed plugins.

It implements no hook. The token endpoint calls the hooks `dockhand_authenticate` and
`dockhand_authorize` of other plugins.
"""
