"""How good a prediction is, with intervals. Never imports torch: it judges any table of risks."""
