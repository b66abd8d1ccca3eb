"""Records, the change log and the tables that requests query, always changed in one transaction."""
