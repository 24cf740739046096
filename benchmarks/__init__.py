"""Measurements that the documentation tells of; each is a command of its own."""
