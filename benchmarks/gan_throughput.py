"""Training throughput of `kg.models.GAN` beside plain Keras loops of the same networks.

    python benchmarks/gan_throughput.py

The DCGAN for 28×28×1 images, batch 128, on random images. Every variant is timed in turn, three
times over, in one process; a row gives the median. Writes benchmarks/gan_throughput.md.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from timing import interleaved, median, table

import keras_gen as kg

SHAPE, LATENT = (28, 28, 1), 100


def plain_layer(layer):
    """Keras's own layer in place of the library's."""
    if isinstance(layer, kg.layers.Dropout):
        return keras.layers.Dropout(layer.rate)
    return layer.__class__.from_config(layer.get_config())


def plain_networks():
    """The same networks as `kg.networks.dcgan`, of Keras's own layers."""
    networks = kg.networks.dcgan.generator(SHAPE), kg.networks.dcgan.discriminator(SHAPE)
    return [keras.models.clone_model(n, clone_function=plain_layer) for n in networks]


def simultaneous_loop(images):
    """TensorFlow's DCGAN tutorial: both networks learn from the same pass. One tf.function."""
    generator, discriminator = plain_networks()
    optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(real):
        noise = tf.random.normal([tf.shape(real)[0], LATENT])
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake = generator(noise, training=True)
            real_logits = discriminator(real, training=True)
            fake_logits = discriminator(fake, training=True)
            generator_loss = entropy(tf.ones_like(fake_logits), fake_logits)
            discriminator_loss = entropy(tf.ones_like(real_logits), real_logits) + entropy(
                tf.zeros_like(fake_logits), fake_logits
            )
        for network, tape, loss, optimizer in (
            (generator, generator_tape, generator_loss, optimizers[0]),
            (discriminator, discriminator_tape, discriminator_loss, optimizers[1]),
        ):
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return generator_loss, discriminator_loss

    def run():
        for batch in images:
            step(batch)

    return run


class PlainGAN(keras.Model):
    """`train_step` of a Model, the networks in turn.

    Args:
        fakes_once: whether the generator learns from the images that the discriminator has just
            learned from, as in `kg.models.GAN`; the Keras example draws them anew.
    """

    def __init__(self, fakes_once=False):
        super().__init__()
        self.fakes_once = fakes_once
        self.generator, self.discriminator = plain_networks()
        self.trackers = [keras.metrics.Mean("d_loss"), keras.metrics.Mean("g_loss")]

    @property
    def metrics(self):
        return self.trackers

    def compile(self):
        super().compile(optimizer=keras.optimizers.Adam(2e-4, beta_1=0.5), jit_compile=False)
        self.d_optimizer = keras.optimizers.Adam(2e-4, beta_1=0.5)
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def fakes(self, batch):
        return self.generator(tf.random.normal([batch, LATENT]), training=True)

    def discriminator_step(self, real, fake):
        batch = tf.shape(real)[0]
        labels = tf.concat([tf.ones([batch, 1]), tf.zeros([batch, 1])], 0)
        with tf.GradientTape() as tape:
            logits = self.discriminator(tf.concat([real, fake], 0), training=True)
            d_loss = self.entropy(labels, logits)
        variables = self.discriminator.trainable_variables
        self.d_optimizer.apply(tape.gradient(d_loss, variables), variables)
        return d_loss

    def train_step(self, real):
        batch = tf.shape(real)[0]
        if not self.fakes_once:
            d_loss = self.discriminator_step(real, self.fakes(batch))
        with tf.GradientTape() as tape:
            fake = self.fakes(batch)
            if self.fakes_once:
                with tape.stop_recording():
                    d_loss = self.discriminator_step(real, fake)
            g_loss = self.entropy(tf.ones([batch, 1]), self.discriminator(fake, training=True))
        variables = self.generator.trainable_variables
        self.optimizer.apply(tape.gradient(g_loss, variables), variables)
        for tracker, value in zip(self.trackers, (d_loss, g_loss)):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def plain_fit(images, **kwargs):
    model = PlainGAN(**kwargs)
    model.built = True
    model.compile()
    return lambda: model.fit(images, verbose=0)


def library_fit(images, precision="float32", **compile_arguments):
    keras.config.set_dtype_policy(precision)
    model = kg.models.GAN(SHAPE, recipe="dcgan")
    model.compile(**compile_arguments)
    keras.config.set_dtype_policy("float32")
    return lambda: model.fit(images, verbose=0)


VARIANTS = {
    "plain loop, networks at once (TensorFlow tutorial)": simultaneous_loop,
    "plain `train_step`, networks in turn (Keras example)": plain_fit,
    "plain `train_step`, the same with fakes drawn once": lambda images: plain_fit(
        images, fakes_once=True
    ),
    "`kg.models.GAN`": library_fit,
    "`kg.models.GAN`, 8 steps per execution": lambda images: library_fit(
        images, steps_per_execution=8
    ),
    "`kg.models.GAN`, mixed_bfloat16": lambda images: library_fit(images, "mixed_bfloat16"),
    "`kg.models.GAN`, XLA": lambda images: library_fit(images, jit_compile=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variants", type=int, nargs="+", help="numbers of the variants, from 0")
    parser.add_argument("--output", default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    images = np.random.default_rng(0).uniform(-1, 1, (args.batches * args.batch_size, *SHAPE))
    images = tf.data.Dataset.from_tensor_slices(images.astype("float32"))
    # With TensorFlow's tuning, an epoch may end with seconds of waiting for its thread.
    options = tf.data.Options()
    options.autotune.enabled = False
    images = images.batch(args.batch_size).prefetch(2).with_options(options)

    names = list(VARIANTS)
    names = [names[i] for i in args.variants] if args.variants else names
    seconds = interleaved({name: VARIANTS[name](images) for name in names}, args.repeats)
    count = args.batches * args.batch_size
    chosen = " --variants " + " ".join(map(str, args.variants)) if args.variants else ""
    rates = {name: [count / value for value in values] for name, values in seconds.items()}
    base = median(rates[names[0]])
    text = (
        f"`python benchmarks/gan_throughput.py --batch-size {args.batch_size} "
        f"--batches {args.batches} --repeats {args.repeats}{chosen}`: DCGAN, 28×28×1, images/s, "
        f"n = {count} images a repeat, median of {args.repeats}.\n\n"
    )
    rows = []
    for name in names:
        repeats = ", ".join(f"{value:.0f}" for value in rates[name])
        rate = median(rates[name])
        rows.append([name, f"{rate:.0f}", f"{rate / base:.2f}", repeats])
    text += table(["variant", "images/s", "ratio to the first", "all repeats"], rows)
    print(text)
    Path(args.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
