"""Foreign text that may be shown: names in headers and files hold whatever somebody wrote there."""

from __future__ import annotations


def keep_printable(text: str) -> str:
    """A text without control characters, which a terminal would take for commands and DICOM forbids."""
    return "".join(character for character in text if character.isprintable())


def replace_unprintable(text: str, by: str) -> str:
    """A text where each control character is another one."""
    return "".join(character if character.isprintable() else by for character in text)
