"""One /proc/PID held open: its mappings, its files, and what this user may ask of it."""
