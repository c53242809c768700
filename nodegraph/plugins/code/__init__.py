"""The code of plugins: which files it is, how they were loaded, and whether it is still the code that keys name."""
