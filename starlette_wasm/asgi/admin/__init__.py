"""The admin API: what is served, and what may be done to it, behind tokens or an app's own users."""
