"""How good a prediction is, with intervals. Never imports torch: it evaluates any table of risks."""

from twobe3.evaluation import metrics

__all__ = ["metrics"]
