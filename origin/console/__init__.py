"""The console: a page for people who watch a fleet, and the stream that keeps it live."""
