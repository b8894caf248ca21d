"""What evenly's report pages are made of: one file each, which asks no host for anything.

A page is a heading and sections, put together by :func:`~evenly.report.page.shell.document`::

    from evenly.report.page.markup import tag
    from evenly.report.page.parts import Section, badge, facts, fold, listing, table
    from evenly.report.page.pixels import Picture, before_after, magnified
    from evenly.report.page.plots import Mark, bar, cell, curve, plane
    from evenly.report.page.shell import document

    html = document(
        command="evenly fix",
        subject="model.onnx",
        verdict=("good", "The pattern of period 4 px fell by 31 dB"),
        lead="Nothing else changed by more than 0.1 dB.",
        sections=[
            Section("pictures", "Before and after", [before_after(old, new, "output 1")]),
            Section("layers", "Layers", [table("Layers", ("layer", "fall"), rows, figures={1})]),
        ],
        data=report.to_json(),
        file="fix.json",
    )

==============================  ======================================================================================
:mod:`~evenly.report.page.markup`  ``tag("p", "text", class_="note")``: every ``str`` is escaped, only ``Markup`` is not
:mod:`~evenly.report.page.parts`   sections, tables, figures in words, badges, things to unfold, Markdown of rules, code
:mod:`~evenly.report.page.pixels`  PNG without a library; pictures under one magnifier; a slider from before to after
:mod:`~evenly.report.page.plots`   SVG: spectra with lines marked, the cell of a pattern, bars, curves, histograms
:mod:`~evenly.report.page.svg`     what drawings share: frame, words, colours
:mod:`~evenly.report.page.shell`   the document: style, script, content security policy, the report's JSON
==============================  ======================================================================================

Three rules keep a page safe and self-contained. Text becomes markup in ``tag`` only, which escapes it and refuses event
handlers, styles in attributes, and addresses other than ``#``, ``https:`` (links) and ``data:`` (pictures). Scripts
and styles are those of this folder, allowed by their hashes. Pictures are drawn for light and dark: colours of SVG are
those of the classes in ``page.css``; presentation attributes say what a notebook, which has no such style, shows.
"""

from __future__ import annotations
