"""Which rule gets a request."""
