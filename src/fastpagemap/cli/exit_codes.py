"""The exit codes of the command; 0 is success."""

FAILURE = 1
MISUSE = 2
#: What a shell reports for a program that Ctrl-C ended.
INTERRUPTED = 130
#: What a shell reports for a program that SIGPIPE ended.
BROKEN_PIPE = 141
