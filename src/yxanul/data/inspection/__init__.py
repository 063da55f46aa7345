"""Prepared data, a run or a checkpoint looked at: whether it is whole, and what is in it."""
