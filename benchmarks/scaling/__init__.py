"""What benchmarks/scale.py measures: one file for each kind of figure."""
