"""Privacy: what a model gives away about its training rows."""
