"""Reference bands: files, statistics, verdicts."""
