#!/usr/bin/env bash
# safetensors writes the same model to other bytes each time, as soon as two entries of metadata go with it.
#
# safetensors 0.8.0. Its tensors are sorted before they are written, and without metadata, or with one entry, a model has one
# digest (the maintainers in issue 66: keys are ordered on save). The entries of the metadata stand in the header in the
# order of a hash table that is seeded anew for each call, whatever order the dictionary has and whatever PYTHONHASHSEED
# says. So a digest of the file, by which a frozen model is named in a paper, a registry or a device's file, cannot be had
# again by training again with the same seed, and two files that differ are no sign of two models (issue 584, open; pull
# request 790). Whoever needs the digest puts all metadata into one entry, as JSON with sorted keys.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
cat >save.py <<'END'
import hashlib
import json
import sys

import numpy as np
from safetensors.numpy import load, save

weights = {"b": np.zeros(2, np.float32), "a": np.ones((2, 3), np.float32)}
about = {key: key.upper() for key in ("endpoint", "family", "tracer", "version", "spacing", "unit", "cohort", "seed")}
found = {}
for name, metadata in (("none", None), ("eight entries", about), ("one entry", {"about": json.dumps(about, sort_keys=True)})):
    files = [save(weights, metadata) for _ in range(50)]
    same = all((load(file)[key] == weights[key]).all() for file in files for key in weights)
    found[name] = len({hashlib.sha256(file).hexdigest() for file in files})
    print(f"metadata: {name}; saved 50 times, weights equal: {same}, digests: {found[name]}")
sys.exit(0 if found["none"] == found["one entry"] == 1 < found["eight entries"] else "this has changed")
END
PYTHONHASHSEED=0 "$folder/venv/bin/python" save.py
