"""The commands of `dockhand`, a module each, which is imported when the command is used."""
