"""The commands that the pack adds to the command line."""
