"""Rooms 03 and 04: readers, RAG, citations."""
