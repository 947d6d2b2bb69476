"""The chores: Prefect tasks that load by reference, call one library function and record."""
