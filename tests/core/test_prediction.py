from __future__ import annotations

import numpy as np

from twobe3.core.prediction import Prediction


def test_a_notebook_shows_a_prediction_without_a_patient() -> None:
    risk = np.array([0.1, 0.2, 0.9, 0.4])
    patients, repeat = ("SMITH", "JONES", "SMITH", "JONES"), np.array([0, 0, 1, 1])
    html = Prediction("<b>m</b>", "y", patients, risk, probability=risk / 2, repeat=repeat)._repr_html_()
    assert "SMITH" not in html
    assert "<b>" not in html
    assert "<td>&lt;b&gt;m&lt;/b&gt;</td>" in html
    assert "<tr><th>patients</th><td>2</td></tr>" in html
    assert "<tr><th>repeats, folds</th><td>2, 1</td></tr>" in html
    assert "<td>median 0.3, 0.1 to 0.9</td>" in html
    assert "<td>median 0.15, 0.05 to 0.45</td>" in html
    assert "threshold" not in html
