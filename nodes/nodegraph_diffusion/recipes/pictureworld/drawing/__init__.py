"""Drawing of scenes in integer arithmetic."""
