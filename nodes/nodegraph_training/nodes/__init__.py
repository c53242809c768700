"""The node types, one file for each noun."""
