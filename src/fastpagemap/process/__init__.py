"""One /proc/PID held open: its mappings, its files, and what may be asked of it."""
