"""Commands about the cache folder and the runs recorded in it."""
