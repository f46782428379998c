"""What operators and their machines ask: alive, ready, figures."""
