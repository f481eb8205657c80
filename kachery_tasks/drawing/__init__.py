"""Pictures of jobs and of what they need: boxes in layers, with lines between them. Nothing is read."""
