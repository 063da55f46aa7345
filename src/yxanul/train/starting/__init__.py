"""What was asked for, and what is settled or refused before anything is trained."""
