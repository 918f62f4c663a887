"""``python -m twobe3``."""

from twobe3.cli.main import main

main()
