"""Holdfast: Genesys Cloud events on AWS, none of them lost.

Dependencies point one way: ``<function>/app.py`` → ``holdfast.domain`` ← ``holdfast.adapters``.
"""
