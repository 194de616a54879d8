"""The subcommands of ``headwater``. What is slow to import is imported when a command runs."""
