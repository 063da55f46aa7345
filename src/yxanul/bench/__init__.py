"""Measurements of this program on this machine; comparisons with others are in benchmarks/."""
