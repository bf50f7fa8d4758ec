"""Public classification datasets as their owners lay them out on disk; see docs/datasets.md.

Everything is read under the data root and nothing is downloaded.
"""
