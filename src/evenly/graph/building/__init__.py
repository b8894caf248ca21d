"""The storeys of the builder, one class each; every one inherits the one before and adds a group of calls.

``values`` is what the calls pass on; ``state`` keeps the nodes; ``moves`` turns what crosses between channels and
lattice into nodes; ``forms`` brings a value into the form that an operation asks for. Then the operations:
``convolution``, ``resample``, ``arrange``, ``elementwise``, ``statistics``, ``products``. The roof is
:class:`evenly.graph.builder.Builder`.
"""
