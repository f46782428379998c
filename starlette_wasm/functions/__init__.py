"""What can be run: the layout on disk, versions, and compiled code kept for the next start."""
