"""Pipelines: functions in a row, or side by side, behind one path."""
