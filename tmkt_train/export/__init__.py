"""A trained network for others: weights with a model card, and a graph in the intermediate representation NIR."""
