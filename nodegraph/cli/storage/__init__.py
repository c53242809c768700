"""Commands about the cache directory and the runs recorded in it."""
