"""What is said before the first step of what a run cannot tell, or repeats in vain."""
