"""State of the process and of the thread that results depend on, such as how numbers are rounded and written."""
