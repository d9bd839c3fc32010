"""Room 05: cases, metrics, journal, statistics, gate."""
