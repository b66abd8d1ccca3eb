"""What every floor stands on: failures, time, hybrid timestamps, digests and names. A closed list of five files."""
