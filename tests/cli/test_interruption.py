"""An interruption while the program starts: the tests of test_main.py interrupt commands at work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Sends itself the signal when the module named is imported: after the program began, before the command did.
PROGRAM = """
import os, runpy, sys
module, number, *sys.argv[1:] = sys.argv[1:]
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Interrupt())
runpy.run_module("twobe3", run_name="__main__", alter_sys=True)
"""


# Both at once; Python runs the handler of one, and that of the other within it or after it.
BOTH = """
import os, signal, time
from twobe3.cli.interruption import interruptible
with interruptible():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    time.sleep(10)
"""


def test_two_signals_are_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=False)
    assert done.returncode in (130, 143)
    assert done.stderr == "twobe3: interrupted; the same command, run again, uses what was kept\n"


@pytest.mark.parametrize("module", ["typer", "twobe3.cli.main"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_import_is_one_line(tmp_path: Path, module: str, number: signal.Signals, status: int) -> None:
    arguments = [module, str(int(number)), "run", "study.toml", "--out", "out"]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env={**os.environ})
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == "twobe3: interrupted; the same command, run again, uses what was kept\n"
