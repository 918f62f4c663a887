"""How good a prediction is, with intervals. Never imports torch: it evaluates any table of risks."""
