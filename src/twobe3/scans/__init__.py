"""A patient's scan, whatever its format: found, inspected, segmented and recognised."""
