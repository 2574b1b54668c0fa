"""Photos and videos of strangers, to upright RGB pictures and face crops. No networks."""
