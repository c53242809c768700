"""Pictures with captions: drawn ones, and those in folders."""
