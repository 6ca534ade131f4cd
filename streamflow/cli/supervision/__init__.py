"""Several workers on one machine: processes that are started, watched, started again and stopped together."""
