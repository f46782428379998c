"""What guests add to the trace of their own invocation."""

from .actions import MAX_ATTRIBUTES, Attributes, Recorder, TraceGrant, TraceUsage, record

__all__ = ["MAX_ATTRIBUTES", "Attributes", "Recorder", "TraceGrant", "TraceUsage", "record"]
