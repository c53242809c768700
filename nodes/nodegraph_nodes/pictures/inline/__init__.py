"""Pictures shown in a terminal."""
