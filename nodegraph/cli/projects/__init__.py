"""Commands around a project: its settings, what is wrong with a machine, and types for editors."""
