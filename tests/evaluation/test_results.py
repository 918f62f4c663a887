from __future__ import annotations

from twobe3.evaluation.results import Evaluation, MetricValue, PrimaryMetric


def test_a_notebook_shows_an_evaluation_as_a_table() -> None:
    metrics = (
        MetricValue("auc", 0.75, 0.5, 0.875, 9, 4, "how", 0),
        MetricValue("brier", None, None, None, 9, 4, "how", 0),
    )
    html = Evaluation("e", "binary", "<b>", 9, 4, 0, 1, PrimaryMetric("auc", "why"), metrics, ())._repr_html_()
    assert "<caption>&lt;b&gt;: e</caption>" in html
    assert "<tr><td>auc</td><td>0.750 (0.500 to 0.875)</td><td>9</td><td>4</td></tr>" in html
    assert "<tr><td>brier</td><td>not estimable</td><td>9</td><td>4</td></tr>" in html
