"""What a worker is asked to run: tasks as plain data, how they are made of the nodes of a plan, and how they are grouped."""
