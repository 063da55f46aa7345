"""Runs model-written Python programs so that a hostile one costs its own item and nothing else."""
