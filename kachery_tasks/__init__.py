"""Tasks: decorated functions, their identity, and running them once. Use it through `kachery`."""
