"""Twinhull: a container registry whose nodes are all masters."""
