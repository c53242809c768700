"""What the results of a workflow depend on, as a lock file holds it."""
