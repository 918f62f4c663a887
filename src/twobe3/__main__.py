"""The program: ``python -m twobe3``, and the script ``twobe3``."""

from twobe3.cli.interruption import interruptible


def main() -> None:
    """Run the command line."""
    with interruptible():  # from here on, since importing the rest takes a fifth of a second
        from twobe3.cli.main import main

        main()


if __name__ == "__main__":
    main()
