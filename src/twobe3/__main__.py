"""``python -m twobe3``."""

from twobe3.cli import main

main()
