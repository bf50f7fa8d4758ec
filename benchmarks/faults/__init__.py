"""Faults, tried many times on real sessions, stores and files."""
