"""Exact search over features and the metrics of what it finds."""
