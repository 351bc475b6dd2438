"""What the user asks: the workload profile and the nouns it becomes."""
