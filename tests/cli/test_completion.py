"""Completion in the shell itself: bash is given the script that the documentation names, and a tab."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
# What bash does on a tab: the words of the line, which of them the cursor is in, and the function that is registered.
TAB = """
eval "$(_TWOBE3_COMPLETE=source_bash twobe3)"
complete -p twobe3 > /dev/null || exit 1
COMP_WORDS=({words}) COMP_CWORD={last} COMPREPLY=()
_twobe3_completion twobe3
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete(*words: str) -> list[str]:
    assert BASH
    script = TAB.format(words=" ".join(f"'{word}'" for word in ("twobe3", *words)), last=len(words))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        [BASH, "--norc", "-c", script], capture_output=True, text=True, check=True, env={"PATH": path, **paths()}
    )
    assert done.stderr == ""
    return done.stdout.split()


def paths() -> dict[str, str]:
    """The package that is tested, where it is not the one installed."""
    return {"PYTHONPATH": ":".join(path for path in sys.path if path)}


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("eva",), ["evaluate"]),
        (("re",), ["report"]),
        (("collections", "f"), ["fetch"]),
        (("run", "--up"), ["--update"]),
        (("list", "b"), ["backbones"]),
        (("convert", "--suv-type", "lbm-ja"), ["lbm-james", "lbm-janma"]),
    ],
)
def test_bash_offers_what_begins_so(words: tuple[str, ...], offered: list[str]) -> None:
    assert complete(*words) == offered


@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_bash_offers_every_command() -> None:
    assert {"demo", "run", "inspect", "convert", "predict", "evaluate", "report", "list", "doctor"} < set(complete(""))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twobe3"], capture_output=True, text=True, check=True,
        env={"_TWOBE3_COMPLETE": f"source_{shell}", **paths()},
    )  # fmt: skip
    assert "twobe3" in done.stdout
    assert f"complete_{shell}" in done.stdout
