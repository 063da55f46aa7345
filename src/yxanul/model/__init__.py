"""The transformer and its chunked loss; it knows one device and no files."""
