"""Benchmarks of waiting: `make bench`, or `python -m bench --help`."""
