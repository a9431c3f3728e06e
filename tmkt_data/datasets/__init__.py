"""The catalogues: one module per dataset, from folders to a `Catalogue`."""
