"""Commands about one workflow file."""
