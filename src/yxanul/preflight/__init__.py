"""Looks at a rented machine before it is paid for: does the plan fit it, and the budget?"""
