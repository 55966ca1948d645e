"""Controllers and static chains as folders for others."""
