"""Where leases and checkpoints are kept."""
