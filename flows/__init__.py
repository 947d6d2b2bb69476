"""The story: Prefect flows, what happens, in which order, on which decision."""
