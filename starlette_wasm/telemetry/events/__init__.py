"""What happened that somebody should know of, as log records and to webhooks."""
