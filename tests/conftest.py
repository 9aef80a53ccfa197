"""One BLAS thread: the matrices of the tests are small, and the machine may be shared."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
