"""The completions server: texts of many requests, written at once by one model."""
