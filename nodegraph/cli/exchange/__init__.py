"""Commands that read and write graphs of other programs."""
