"""Asyncio primitives that know nothing of this project."""
