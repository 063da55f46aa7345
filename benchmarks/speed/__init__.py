"""Ways of training that race against the clock on the same text."""
