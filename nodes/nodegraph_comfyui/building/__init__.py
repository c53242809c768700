"""The workflow that is made of a graph, step by step."""
