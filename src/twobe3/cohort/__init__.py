"""Subjects with their outcomes: reading them, grouping them, splitting them."""
