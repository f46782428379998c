"""What an operator writes, checked."""
