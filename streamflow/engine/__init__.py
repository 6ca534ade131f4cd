"""The task tree: performs what the rules decide and owns every task."""
