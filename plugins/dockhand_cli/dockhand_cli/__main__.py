"""The command `python -m dockhand_cli`, which is the command `dockhand`."""

from dockhand_cli.main import run

if __name__ == "__main__":
    run()
