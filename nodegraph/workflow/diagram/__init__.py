"""Drawings of a graph: as Mermaid text and as SVG."""
