"""Loading models for nodes: parts, files, devices and memory."""
