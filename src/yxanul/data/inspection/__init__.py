"""A prepared folder looked at: whether it is whole, what is in it, and why texts are not."""
