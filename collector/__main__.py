"""`python -m collector` is `sidespan`."""

from collector.cli.plugins import disable_plugins


def main() -> None:
    """The entry point of both."""
    disable_plugins()
    from collector.cli.commands import main as run_command

    run_command()


if __name__ == "__main__":
    main()
