"""The nodes of the pack, one file for each noun."""
