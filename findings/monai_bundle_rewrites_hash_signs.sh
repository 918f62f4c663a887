#!/usr/bin/env bash
# MONAI's bundle parser turns every "#" in a plain string into "::", so that names of files and lesions come back changed.
#
# monai 1.6.1 with torch 2.13.0. "#" joins the parts of an id in older bundles, as in "@net#lr", and the parser brings such
# references to today's "::" (pull request 6955 speaks of ids). It does so in every string of the configuration, whether it
# refers to anything or not: a file called "PET#1.csv" becomes "PET::1.csv", "lesion #2" becomes "lesion ::2", and nothing is
# said. The other sign of references, "@", is left alone within a string, as one would expect of both. An expression in its
# place ("$'PET#1.csv'") is rewritten before it is evaluated. Whoever runs bundles keeps "#" out of the names of folders
# and files that stand in a configuration.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet monai==1.6.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >read.py <<'END'
import json
import sys
from pathlib import Path

from monai.bundle import ConfigParser

written = {
    "output": "PET#1.csv", "label": "lesion #2", "expression": "$'PET#1.csv'", "at": "SUV@60min", "plain": "PET-1.csv"
}
Path("inference.json").write_text(json.dumps(written))
parser = ConfigParser()
parser.read_config("inference.json")
read = {name: parser.get_parsed_content(name) for name in written}
for name, text in written.items():
    print(f"{name}: {text!r} is read as {read[name]!r}")
wanted = {
    "output": "PET::1.csv", "label": "lesion ::2", "expression": "PET::1.csv", "at": "SUV@60min", "plain": "PET-1.csv"
}
sys.exit(0 if read == wanted else "this has changed")
END
"$folder/venv/bin/python" -W ignore read.py
