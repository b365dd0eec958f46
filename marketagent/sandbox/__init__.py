"""``ma sandbox``: a stand-in for every vendor on loopback, with real protocol, deterministic data, faults on demand."""
