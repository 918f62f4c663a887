"""The program: ``python -m twobe3``, and the script ``twobe3``."""

import sys
from pathlib import Path

HELP = Path(__file__).with_name("cli") / "help.txt"
"""What typer says of all verbs on 80 columns: to import it takes ten times as long as to show this."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] in (["--help"], ["-h"]) and HELP.exists():
        sys.stdout.write(HELP.read_text(encoding="utf-8"))
        return
    from twobe3.cli.interruption import interruptible

    with interruptible():  # from here on, since importing the rest takes a fifth of a second
        from twobe3.cli.main import main

        main()


if __name__ == "__main__":
    main()
