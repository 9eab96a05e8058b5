"""`python -m collector` is `sidespan`."""

from collector.cli import main

main()
