"""From a workflow to the checked, typed graph, or to every problem in it."""
