"""The embedded default: a local AWS, a stand-in for Genesys Cloud, and the deployment between them.

Nothing in ``functions/``, ``statemachine/`` or ``template.yaml`` knows that this package exists.
"""
