"""What a run gives away while it trains: checkpoints, their copies, rows, a bar."""
