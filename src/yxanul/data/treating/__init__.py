"""What is done to a text by itself, on many cores: cleaned, judged, tokenised."""
