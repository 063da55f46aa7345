"""Training steps timed side by side: our way and others', on one workload."""
