"""Holdfast: Genesys Cloud events on AWS, none of them lost.

Dependencies point one way: ``<function>/app.py`` imports the adapters and the domain, ``holdfast.adapters`` imports
``holdfast.domain``, and ``holdfast.domain`` imports neither.
"""
