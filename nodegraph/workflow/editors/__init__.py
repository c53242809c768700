"""What editors know about workflows: a schema of the files, and types for Python."""
