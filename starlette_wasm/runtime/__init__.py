"""The object with a life: start, reload, drain, close."""
