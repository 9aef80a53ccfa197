"""One BLAS thread: the matrices of the tests are small, and the machine may be shared. And Ctrl-C as in a terminal: a
process that was started in the background ignores it, and so would all that the tests start."""

import os
import signal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest


@pytest.fixture
def one_torch_thread():
    """torch with one seed, and one thread, for small batches."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
