#!/usr/bin/env bash
# Importing dask_jobqueue makes Ctrl-C end a program with exit status 0, as if it had finished.
#
# dask-jobqueue 0.9.0 with dask 2026.8.0. The module of its batch runners sets a handler for SIGINT when it is imported,
# which any `import dask_jobqueue` does, also for a SLURMCluster alone. A program that imports it and waits is
# interrupted: no KeyboardInterrupt is raised, `except KeyboardInterrupt` is not reached, and the exit status is 0, so
# that the next step of a script or a workflow goes on with half a result. The same program without the import ends by
# the signal. Whoever imports it sets the handler back afterwards.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet dask-jobqueue==0.9.0 dask==2026.8.0 distributed==2026.8.0
cd "$folder"
cat >program.py <<'END'
import sys
import time

if sys.argv[1] == "imported":
    import dask_jobqueue  # noqa: F401
print("waiting", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
END
cat >interrupt.py <<'END'
import signal
import subprocess
import sys

found = {}
for how in ("plain", "imported"):
    command = [sys.executable, "-W", "ignore", "program.py", how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "waiting\n":
            pass
        process.send_signal(signal.SIGINT)
        said = process.stdout.read().strip()
    found[how] = (said, process.returncode)
    print(f"{how}: says {said!r}, exit status {process.returncode}")
sys.exit(0 if found == {"plain": ("interrupted", 130), "imported": ("", 0)} else "this has changed")
END
"$folder/venv/bin/python" interrupt.py
