"""Webhooks: what this node's own deeds mean to projects' policies, and the way to those who want to know."""
