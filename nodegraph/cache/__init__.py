"""Results that were computed before: keys, digests, codecs, and where they are kept."""
