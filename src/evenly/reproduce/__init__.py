"""Every experiment of the article, run again and measured.

:mod:`~evenly.reproduce.claims` says what is claimed, :mod:`~evenly.reproduce.registry` which experiment speaks about
it; one module per experiment, named by its source, says what is run and what decides. :mod:`~evenly.reproduce.run`
runs them, and the pages are made from what is written then.
"""
