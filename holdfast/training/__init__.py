"""Training: one loop, recipes as files."""
