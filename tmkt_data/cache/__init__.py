"""The cache: one HDF5 file with its digest. h5py is imported here and by the readers of HDF5 recordings only."""
