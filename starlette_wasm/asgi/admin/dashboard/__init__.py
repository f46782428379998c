"""The dashboard: pages for browsers on the mount of the admin API."""
