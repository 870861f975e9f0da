"""A real Label Studio on this machine, driven over its own API.

``label_studio`` starts and drives the server, ``pictures`` draws samples whose masks are known exactly, and
``python -m examples.studio`` (``make studio``) joins the two into a project ready to try. The end-to-end tests stand
on the same code. Nothing here is needed to serve a model.
"""
