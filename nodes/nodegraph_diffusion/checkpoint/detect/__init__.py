"""What a file or folder is, from names, headers and configs alone."""
