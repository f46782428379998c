"""Starlette's face: what knows scope, receive and send."""
