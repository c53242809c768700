"""What a file or folder holds, found out from names, headers and configs, without torch."""
