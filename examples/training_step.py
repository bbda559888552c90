"""A step of training of one's own: ``python examples/training_step.py``."""

import torch
from torch.nn.functional import l1_loss

from srpipe import zoo
from srpipe.resample import reduce


def main() -> None:
    network = zoo.load("rdam", scale=2).network.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
    truth = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))

    loss = l1_loss(network(reduce(truth, 2)), truth)
    loss.backward()
    optimiser.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
