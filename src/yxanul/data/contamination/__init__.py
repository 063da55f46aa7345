"""Looks for the items of benchmarks in the text that a run trains on."""
