"""Write combat.json: values of neuroCombat 0.2.12 (``pip install neuroCombat==0.2.12``) on drawn features."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat

rng = np.random.default_rng(7)
centres = ["east"] * 8 + ["north"] * 12 + ["south"] * 6
gain, offset = {"east": 1.0, "north": 1.6, "south": 0.7}, {"east": 0.0, "north": 2.0, "south": -1.0}
x = np.array([offset[c] + gain[c] * rng.normal(10.0, 2.0, 7) for c in centres]).round(4)
harmonised = neuroCombat(dat=x.T, covars=pd.DataFrame({"centre": centres}), batch_col="centre")["data"].T
text = json.dumps({"centres": centres, "x": x.tolist(), "harmonised": harmonised.round(6).tolist()})
(Path(__file__).parent / "combat.json").write_text(text + "\n")
