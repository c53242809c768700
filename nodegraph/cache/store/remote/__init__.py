"""A shared store behind the cache directory: results that several machines use, in a bucket or a folder."""
