"""Room 01: the chat client and, later, the vLLM process."""
