"""What changes weights: an update, whether it may be done, the state it leaves, its clock."""
