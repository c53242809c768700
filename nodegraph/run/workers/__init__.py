"""Where ready nodes run."""
