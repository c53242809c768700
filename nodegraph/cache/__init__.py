"""Results of earlier computations: their keys, the digests of files, and where results are kept."""
