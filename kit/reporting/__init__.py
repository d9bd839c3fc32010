"""Rooms 08 and 09: cost, charts, summary."""
