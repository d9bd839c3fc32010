"""Room 02: files → text → chunks → store; Japanese text and ranking."""
