"""One module a group of figures, each with ``run(plan, progress)``."""
