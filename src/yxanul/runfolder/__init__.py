"""What a run leaves behind: layout, rows, checkpoints, lineage; plain data, free of torch."""
