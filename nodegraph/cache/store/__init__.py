"""Results in a cache directory on disk."""
