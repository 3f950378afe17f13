"""Benchmarks, each behind `./run bench NAME [--quick] [--json]`: private instances only, ending by themselves."""
