"""Commands about a workflow file."""
