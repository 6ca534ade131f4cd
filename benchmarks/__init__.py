"""What is claimed about speed: each claim measured with its peer and its floor in one run."""
