"""Which version of a function answers a request, and how a new one takes over."""
