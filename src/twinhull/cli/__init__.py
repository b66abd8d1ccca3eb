"""The command line: one file a command, and the processes that `twinhull serve` watches over."""
