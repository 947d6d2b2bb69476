"""What is done about a model: whether a candidate may take the champion's place, and on what evidence."""
