"""What changes weights: an update, whether it may be done, and the state it leaves."""
