"""Measurements of the project itself; each script prints what the documents quote."""
