"""The kernel's ABI, and all that runs without the GIL: functions on the caller's buffers."""
