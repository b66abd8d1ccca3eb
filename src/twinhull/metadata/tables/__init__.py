"""The tables, a file a subject. New ones go where their subject is, and are declared replicated, derived or node-local."""
