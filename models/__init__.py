"""The zoo: one file a system, each with its mechanism, its data, its training and the plain softmax twin."""
