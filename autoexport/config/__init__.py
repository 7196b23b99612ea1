"""Settings, the layers they come from, and database URLs."""
