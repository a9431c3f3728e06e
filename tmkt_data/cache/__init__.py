"""The cache: one HDF5 file per prepared dataset. h5py lives here and nowhere else."""
