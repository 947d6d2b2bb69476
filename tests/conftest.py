"""What every test shares: one torch thread each, since several tests run at a time."""

import torch

torch.set_num_threads(1)
