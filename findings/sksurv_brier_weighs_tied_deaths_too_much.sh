#!/usr/bin/env bash
# scikit-survival's Brier score of a coin (0.5 for everybody) is not 0.25 where deaths and censorings share a time.
#
# scikit-survival 0.28.0. Who predicts 0.5 for everybody is off by 0.5 whatever happens, and a mean squared error, as its
# documentation calls the score, is then 0.25. Follow-up in whole years, eleven patients: in year 1 one dies and eight are
# censored, in year 2 one dies, in year 3 one is censored. brier_score says 0.3409 after year 1 and after year 2. Its
# estimate of the probability G of being uncensored keeps the dead of year 1 at risk when the eight leave (10 at risk, G
# falls from 1 to 0.2), but the death of that year is weighted by 1 / G(1) = 5, after those censorings, where 1 / G(1-) = 1
# goes with it: Gerds gives G(T-) for deaths in riskRegression's issue 6, and R's pec takes it. With that, the weights
# after year 1 are 1 for the death and 5 for each of two survivors, eleven in all, so that the coin has its 0.25 and
# "nobody dies" scores what Kaplan and Meier say has died. Days of follow-up hardly tie; months and years do. Whoever
# scores such data moves the censored times on by less than the unit, as below, which brings both values back.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-survival==0.28.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
cat >score.py <<'END'
import sys

import numpy as np
from sksurv.metrics import brier_score
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

years = np.array([1.0] * 9 + [2.0, 3.0])
died = np.array([True] + [False] * 8 + [True, False])
dead = 1 - kaplan_meier_estimator(died, years)[1][:2]  # up to years 1 and 2


def scores(times, at, alive):
    y = Surv.from_arrays(died, times)
    return brier_score(y, y, np.full((len(y), len(at)), alive), at)[1].round(4).tolist()


print(f"dead by Kaplan and Meier after years 1 and 2: {dead.round(4).tolist()}")
found = {}
for name, times, at in (
    ("as they are", years, [1.0, 2.0]),
    ("censored later by 0.01", years + np.where(died, 0, 0.01), [1.02, 2.02]),
):
    found[name] = scores(times, at, 0.5), scores(times, at, 1.0)
    print(f"{name}: 0.5 for everybody scores {found[name][0]}, 'nobody dies' scores {found[name][1]}")
wanted = {
    "as they are": ([0.3409, 0.3409], [0.4545, 0.9091]),
    "censored later by 0.01": ([0.25, 0.25], dead.round(4).tolist()),
}
sys.exit(0 if found == wanted else "this has changed")
END
"$folder/venv/bin/python" score.py
