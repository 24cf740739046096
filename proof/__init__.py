"""Fault injection: a fault at every call of the deployed application, and random faults under load."""
