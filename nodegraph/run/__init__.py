"""Running a graph: the plan, the scheduler, and what a run leaves behind."""
