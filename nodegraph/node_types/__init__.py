"""What a node type is: its ports, their types, and the values that they take."""
