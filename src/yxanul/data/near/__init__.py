"""Finds texts of which a large part stands in an earlier one: MinHash and bands."""
