"""Maintenance of a whole cache directory: verify it, collect garbage, clear it.

Other processes may compute and read results meanwhile. A blob is written before the record that names it, so a blob that no record
names is kept while it is young; and a blob that was written again since it was listed is not removed.
"""
