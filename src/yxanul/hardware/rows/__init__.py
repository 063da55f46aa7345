"""The rows of the doctor's table, a function each."""
