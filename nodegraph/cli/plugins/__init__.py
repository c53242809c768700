"""Commands that list what is installed."""
