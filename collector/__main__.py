"""`python -m collector` is `sidespan`."""

from collector.cli.commands import main

main()
