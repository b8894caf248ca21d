"""Parts of ``bench/measure.py``: pictures whose truth is known, other people's statistics, scores and the table."""
