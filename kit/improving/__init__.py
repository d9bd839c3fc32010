"""Rooms 06 and 07: failure attribution, candidates, replay, adapters."""
