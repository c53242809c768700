"""Pictures as numbers: reading and writing files, and laying pictures and text out for people to compare."""
