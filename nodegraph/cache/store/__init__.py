"""The results in a cache directory on disk."""
