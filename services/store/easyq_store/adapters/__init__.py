"""Databases behind the persistence port."""
