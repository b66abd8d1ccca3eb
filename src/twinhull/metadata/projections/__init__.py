"""From records to the tables that requests query: one function a kind, in the file of its subject; nothing else writes them."""
