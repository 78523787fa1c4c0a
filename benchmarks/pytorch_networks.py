"""The peers of `pytorch_throughput.py`: three models of the project in PyTorch. Not for itself.

The networks have the layers of `networks.resnet`, `networks.autoencoder` and
`networks.pixelcnn.gated` for 28×28×1 images, one by one, and so as many parameters. Convolutions of
stride 2 pad alike on both sides, as is usual in PyTorch, where TensorFlow pads the far side alone.

A maker such as `gan(variant)` gives the networks and a function `step(images)`, images float32
[batch, 1, 28, 28] in [-1, 1], which makes one training step and returns its loss.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

BINOMIAL = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16
LATENT_DIM, BURN_IN, THRESHOLD = 64, 200_000, 0.33


class Variant(NamedTuple):
    """How the networks are run."""

    bfloat16: bool = False
    channels_last: bool = False
    compiled: bool = False

    def laid_out(self, tensors):
        """A network or images, in the memory format."""
        return tensors.to(memory_format=torch.channels_last) if self.channels_last else tensors

    def run(self, function):
        """The function, compiled and under autocast where the variant says so."""
        function = torch.compile(function, dynamic=False) if self.compiled else function

        def run(*args):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                return function(*args)

        return run


class WeightAverages:
    """Exponential moving averages of the weights of networks."""

    def __init__(self, *networks):
        self.weights = [weight for network in networks for weight in network.parameters()]
        self.averages = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def move(self, decay):
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)


def usual_decay(step):
    """That of the averages after a step, 1 being the first, as it warms up."""
    return min(0.999, (1 + step) / (10 + step))


def adam(*networks, rate=1e-3, betas=(0.9, 0.999)):
    weights = [weight for network in networks for weight in network.parameters()]
    return torch.optim.Adam(weights, rate, betas, eps=1e-7, fused=True)


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def averaged_descent(networks, loss_of):
    """The training step of models with one loss and one optimizer."""
    optimizer, averages, steps = adam(*networks), WeightAverages(*networks), 0

    def step(images):
        nonlocal steps
        steps += 1
        loss = loss_of(images)
        descend(optimizer, loss)
        averages.move(usual_decay(steps))
        return loss.item()

    return step


# Residual generator and discriminator (`networks.resnet`)

CHANNELS = (16, 64, 128)  # of 28×28, 14×14 and 7×7
SMALLEST = (1, CHANNELS[-1], 7, 7)


class ResidualBlock(nn.Module):
    """Convolutions of 1×1, 3×3 and 1×1, the first two to half the channels."""

    def __init__(self, channels):
        super().__init__()
        narrow = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, channels, 1, bias=False),
        )
        nn.init.zeros_(self.branch[-1].weight)

    def forward(self, x):
        return x + self.branch(x)


class Halved(nn.Module):
    """A 1×1 convolution and a halving of the sides with the binomial filter, as one."""

    def __init__(self, channels, filters):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(filters, channels, 1, 1) / channels**0.5)
        self.register_buffer("binomial", BINOMIAL)

    def forward(self, x):
        return functional.conv2d(x, self.kernel * self.binomial, stride=2, padding=1)


class Doubled(nn.Module):
    """A 1×1 convolution and a doubling of the sides with the binomial filter, as one."""

    def __init__(self, channels, filters):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, filters, 1, 1) / channels**0.5)
        self.register_buffer("binomial", 4 * BINOMIAL)

    def forward(self, x):
        kernel = self.kernel * self.binomial
        return functional.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1)


class Generator(nn.Module):
    """Latents [batch, 64] to images."""

    def __init__(self):
        super().__init__()
        image, middle, smallest = CHANNELS
        self.project = nn.Linear(LATENT_DIM, smallest)
        self.smallest = nn.Parameter(torch.randn(SMALLEST))
        self.levels = nn.Sequential(
            ResidualBlock(smallest),
            Doubled(smallest, middle),
            ResidualBlock(middle),
            Doubled(middle, image),
            ResidualBlock(image),
            nn.Conv2d(image, 1, 1),
        )

    def forward(self, latents):
        scales = self.project(latents)[:, :, None, None]
        return self.levels(scales * self.smallest.to(scales.dtype)).float().tanh()


class Discriminator(nn.Module):
    """Images to logits [batch]."""

    def __init__(self):
        super().__init__()
        image, middle, smallest = CHANNELS
        self.levels = nn.Sequential(
            nn.Conv2d(1, image, 1),
            ResidualBlock(image),
            Halved(image, middle),
            ResidualBlock(middle),
            Halved(middle, smallest),
            ResidualBlock(smallest),
        )
        self.sum = nn.Parameter(torch.randn(SMALLEST) / math.prod(SMALLEST[1:]) ** 0.5)
        self.logit = nn.Linear(smallest, 1)

    def forward(self, images):
        x = self.levels(images)
        features = (x * self.sum.to(x.dtype)).sum((2, 3))
        return self.logit(features)[:, 0].float()


def cosine(initial, final, seen):
    """Half a cosine from `initial` to `final`, over the images of the burn-in."""
    progress = min(seen / BURN_IN, 1)
    return final + (initial - final) * 0.5 * (1 + math.cos(math.pi * progress))


def judged(discriminator, images):
    """Logits of images, and the squared norms of their gradients in the images, [batch] each."""
    images = images.detach().requires_grad_()
    logits = discriminator(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, gradient.square().sum((1, 2, 3))


def functionally_judged(discriminator, images):
    """As `judged`, in a form whose gradients of second order `torch.compile` can trace."""

    def total_and_logits(x):
        logits = discriminator(x)
        return logits.sum(), logits

    gradient, logits = torch.func.grad(total_and_logits, has_aux=True)(images)
    return logits, gradient.square().sum((1, 2, 3))


def gan(variant):
    """R3GAN (Huang et al. 2024): relativistic loss, R1 and R2, the networks in turn."""
    generator, discriminator = (variant.laid_out(net()) for net in (Generator, Discriminator))
    optimizer, discriminator_optimizer = (
        adam(net, rate=2e-3, betas=(0.0, 0.9)) for net in (generator, discriminator)
    )
    averages, judge = WeightAverages(generator), functionally_judged if variant.compiled else judged
    seen = 0

    def follow_schedules():
        for group in optimizer.param_groups + discriminator_optimizer.param_groups:
            group["lr"] = 2e-3 * cosine(1.0, 0.25, seen)
            group["betas"] = (0.0, cosine(0.9, 0.99, seen))

    def discriminator_loss(real, fake, weight):
        real_logits, real_norms = judge(discriminator, real)
        fake_logits, fake_norms = judge(discriminator, fake)
        penalties = weight / 2 * (real_norms + fake_norms)
        return (functional.softplus(fake_logits - real_logits) + penalties).mean()

    def generator_loss(real, fake):
        with torch.no_grad():
            real_logits = discriminator(real)
        return functional.softplus(real_logits - discriminator(fake)).mean()

    make, loss_down, loss_up = map(variant.run, (generator, discriminator_loss, generator_loss))

    def step(real):
        nonlocal seen
        follow_schedules()
        fake = make(torch.randn(len(real), LATENT_DIM))
        weight = torch.tensor(cosine(1.0, 0.1, seen))
        judged_loss = loss_down(real, fake.detach(), weight)
        descend(discriminator_optimizer, judged_loss)
        discriminator.requires_grad_(False)
        own = loss_up(real, fake)
        descend(optimizer, own)
        discriminator.requires_grad_(True)
        half_life = max(cosine(0, BURN_IN / 20, seen), 1e-3)
        averages.move(0.5 ** (len(real) / half_life))
        seen += len(real)
        return judged_loss.item() + own.item()

    return [generator, discriminator], step


# Variational autoencoder (`networks.autoencoder`)


class PlainBlock(nn.Module):
    """Two convolutions of 3×3, half the channels between them."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.second = nn.Conv2d(channels // 2, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x):
        return x + self.second(self.first(x.relu()).relu())


def encoder(width=32, hidden=256, latent_dim=32):
    """Images to means and log-variances [batch, 64]."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1),
        PlainBlock(width),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        PlainBlock(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * 7 * 2 * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 2 * latent_dim),
    )


def decoder(width=32, hidden=256, latent_dim=32):
    """Latents [batch, 32] to the logits of white pixels."""
    return nn.Sequential(
        nn.Linear(latent_dim, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 7 * 7 * 2 * width),
        nn.Unflatten(1, (2 * width, 7, 7)),
        PlainBlock(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        PlainBlock(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
    )


def vae(variant):
    """Kingma and Welling 2014: cross-entropy of the pixels and the KL divergence, per pixel."""
    encode, decode = (variant.laid_out(network) for network in (encoder(), decoder()))

    def loss_of(images):
        mean, log_variance = encode(images).float().chunk(2, 1)
        log_variance = log_variance.clamp(-20, 20)
        latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        white, logits = (images + 1) / 2, decode(latents).float()
        entropy = functional.binary_cross_entropy_with_logits(logits, white, reduction="sum")
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        return (entropy + divergence) / images.numel()

    return [encode, decode], averaged_descent([encode, decode], variant.run(loss_of))


# Gated PixelCNN (`networks.pixelcnn.gated`)


class CausalConv(nn.Module):
    """A convolution that sees rows above and its own, or with one row pixels left of it."""

    def __init__(self, channels, filters, rows, columns, dilation=1):
        super().__init__()
        beside = (columns // 2, columns // 2) if rows > 1 else (columns - 1, 0)
        self.padding = tuple(dilation * side for side in (*beside, rows - 1, 0))
        self.conv = nn.Conv2d(channels, filters, (rows, columns), dilation=dilation)

    def forward(self, x):
        return self.conv(functional.pad(x, self.padding))


def gated(x):
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


class GatedBlock(nn.Module):
    """One block of both stacks; that of the last one's vertical stack ends in what it says."""

    def __init__(self, width, dilation):
        super().__init__()
        self.vertical = CausalConv(width, 2 * width, 2, 3, dilation)
        self.context = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = CausalConv(width, 2 * width, 1, 2, dilation)
        self.residual = nn.Conv2d(width, width, 1)

    def forward(self, v, h, last):
        a = self.vertical(v)
        b = self.horizontal(h) + self.context(a)
        return None if last else v + gated(a), h + self.residual(gated(b))


class GatedPixelCNN(nn.Module):
    """Images of two levels, -1 and 1, to logits [batch, 2, 28, 28]."""

    def __init__(self, width=64, blocks=6, levels=2):
        super().__init__()
        self.above, self.left = CausalConv(2, width, 3, 7), CausalConv(2, width, 1, 3)
        self.blocks = nn.ModuleList(GatedBlock(width, (1, 2, 4)[i % 3]) for i in range(blocks))
        self.hidden, self.parameters_of = nn.Conv2d(width, width, 1), nn.Conv2d(width, levels, 1)
        nn.init.zeros_(self.parameters_of.weight)

    def forward(self, images):
        marked = torch.cat([images, torch.ones_like(images)], 1)
        v = self.above(functional.pad(marked[:, :, :-1], (0, 0, 1, 0)))
        h = self.left(functional.pad(marked[..., :-1], (1, 0)))
        for i, block in enumerate(self.blocks, start=1):
            v, h = block(v, h, i == len(self.blocks))
        return self.parameters_of(functional.elu(self.hidden(functional.elu(h))))


def pixelcnn(variant):
    """van den Oord et al. 2016: the log-probability of binarized images, nats an image."""
    network = variant.laid_out(GatedPixelCNN())

    def loss_of(images):
        white = (images + 1) / 2 >= THRESHOLD
        logits = network(2 * white.float() - 1).float()
        nats = functional.cross_entropy(logits, white[:, 0].long(), reduction="sum")
        return nats / len(images)

    return [network], averaged_descent([network], variant.run(loss_of))


def parameters(network):
    return sum(weight.numel() for weight in network.parameters())
