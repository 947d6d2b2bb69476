"""What every test shares: one thread each, since several tests run at a time, for the commands they start too."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
