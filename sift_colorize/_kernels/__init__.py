"""numba kernels: arrays in, arrays out, unchecked; each file is named after the file that calls it."""
