"""Which texts are there already, word for word or nearly so, and the signatures that tell."""
