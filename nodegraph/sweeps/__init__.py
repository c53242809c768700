"""Sweeps: one workflow with many values, and what came of each.

`run` reads the axes (`axes`), checks each value (`checked`), and runs the points one after another (`point_runs`), each of which
is a run of the engine. `folder` and `table` keep what a sweep has written, so that the same sweep goes on where it was stopped,
and `result` and `sheets` show it.
"""
