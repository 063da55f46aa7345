"""What each part of the page tells, as values; nothing is drawn or written here."""
