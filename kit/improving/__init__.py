"""Rooms 06 and 07: candidates, replay, adapters."""
