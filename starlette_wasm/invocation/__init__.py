"""One call of one bound function."""
