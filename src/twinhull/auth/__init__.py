"""Who you are and what you may do: roles and rights, passwords and secrets, registry tokens."""
