"""Pre-training without outcomes: from what every header carries, and by self-supervision."""
