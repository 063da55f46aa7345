"""Where texts and prepared folders lie, on this disk or at an address, and how they travel."""
