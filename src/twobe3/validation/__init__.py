"""Every model on every fold, and what guards that: thresholds, recalibration, leakage audit, external cohorts."""
