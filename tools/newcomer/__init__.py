"""Measures how a node joins another one that has much."""
