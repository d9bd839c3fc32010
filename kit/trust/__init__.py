"""Room 00: offline checks, the ledger and the seal."""
