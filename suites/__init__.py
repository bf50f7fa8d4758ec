"""The benchmark: one test module per task family. Run it with ``pytest --pyargs suites``."""
