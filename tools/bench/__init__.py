"""Measures Twinhull beside other registries on the same machine in the same run: `python -m tools.bench --help`."""
