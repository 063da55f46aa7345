"""Said before the first step: what gates will not be able to tell, what repetition is worth."""
