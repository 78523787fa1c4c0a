"""Draws what a trained model can be told: `python training/control.py model.keras`.

Of a diffusion model strips of held-out images: inpainting (the image, the image with its hole,
drawings of the hole), image to image (the image, then more and more drawn anew) and interpolation
(an image at each end); with classes, mixtures of two of them besides. Of one that enlarges, the
small picture, drawings of it, and the picture that it was made of.

Of a GAN strips of its latents: interpolation, truncation (from all alike to all their variety) and,
without classes, the way towards a class of the data, one class a row, which a classifier of the
project tells; and held-out images beside what the generator makes that is nearest to them.

Of an autoencoder held-out images beside their reconstructions; of all but a VQVAE interpolation and
traversal (one unit of an image's latent a row, those that say most), and the manifold of a latent
of two units. Of a PixelCNN held-out images, and drawings of their lower halves.
"""

import argparse
from functools import partial
from pathlib import Path

import common
import keras
import numpy as np

import keras_gen as kg

COLUMNS = 8


def strips_of(model):
    """The function that draws the strips of a model of this kind."""
    if isinstance(model, kg.models.GAN) and model.codes:
        raise SystemExit("There are no strips of codes: `model.generate(codes=...)` tells them.")
    if type(model) is kg.models.Diffusion:
        return enlarged_strips if model.upscale else strips
    of_kind = {
        kg.models.GAN: latent_strips,
        kg.models.VAE: encoded_strips,
        kg.models.Autoencoder: encoded_strips,
        kg.models.VQVAE: encoded_strips,
        kg.models.PixelCNN: completed_strips,
    }
    if type(model) not in of_kind:
        raise SystemExit(f"There are no strips of a {type(model).__name__}.")
    return of_kind[type(model)]


def strips(model, pictures, labels, source, steps, seed):
    """Yields what is shown and uint8 [rows * COLUMNS, h, w, c], one after the other.

    Args:
        model: a diffusion model.
        pictures, labels: held-out images to start from; no labels for a model without classes.
        source: function of nothing that loads the images to learn from, for what needs them.
        steps: of what is done in steps.
        seed: int.
    """
    how = {"steps": steps}
    rows = len(pictures)
    yield "inpaint", _lower_halves(model.inpaint, pictures, labels, seed=seed, **how)

    strengths = np.linspace(0.2, 0.9, COLUMNS - 1)
    anew = [model.image_to_image(pictures, s, labels, seed=seed, **how) for s in strengths]
    yield "image_to_image", _beside(pictures[:, None], np.stack(anew, axis=1), rows)

    # the ends of a pair may be of two classes: both ways are gone under the label of the first
    first, second = pictures[: rows // 2], pictures[rows // 2 : rows // 2 * 2]
    pair_labels = None if labels is None else labels[: rows // 2]
    between = model.interpolate(first, second, COLUMNS, pair_labels, steps=4 * steps)
    yield "interpolate", between.reshape(-1, *model.image_shape)

    if model.num_classes:
        weights = np.tile(np.linspace(0, 1, COLUMNS), rows)
        ones = np.repeat(np.arange(rows) % model.num_classes, COLUMNS)
        seeds = (seed << 32) + np.repeat(np.arange(rows), COLUMNS)
        others = (ones + 1) % model.num_classes
        yield "mix_classes", model.mix_classes(ones, others, weights, seed=seeds, **how)


def enlarged_strips(model, pictures, labels, source, steps, seed):
    """As `strips`, of a model that enlarges."""
    yield "enlarge", common.enlarged(model, pictures, labels, COLUMNS, seed=seed, steps=steps)


def latent_strips(model, pictures, labels, source, steps, seed):
    """As `strips`, of a GAN; `source` has the classes to go towards, `steps` are of inversion."""
    source = source()

    def shown(images):
        return images.reshape(-1, *model.image_shape)

    rows = len(pictures)
    latents = kg.control.random_latents(model, 2 * rows, seed)
    ends = latents[:rows], latents[rows:]
    yield "interpolate", shown(kg.control.interpolate(model, *ends, COLUMNS, labels))

    one_label = labels if labels is None else np.resize(labels, COLUMNS)
    some = kg.control.random_latents(model, COLUMNS, seed)
    drawn = [
        model.decode(kg.control.truncate(some, psi), one_label) for psi in np.linspace(0, 1, rows)
    ]
    yield "truncate", shown(np.stack(drawn))

    if model.num_classes is None and source.num_classes:
        extractor = kg.metrics.train_extractor(source)

        def classify(pictures):
            return kg.metrics.extract(extractor, pictures).logits.argmax(1)

        ways = []
        for label, name in enumerate(source.class_names or range(source.num_classes)):
            try:
                found = kg.control.class_direction(model, classify, label, seed=seed + 1)
            except ValueError as error:  # a class that the generator hardly draws
                print(f"class {name}: {error}")
                continue
            print(
                f"class {name}: told from latents with accuracy {found.accuracy:.3f}, "
                f"{found.majority:.3f} by always saying the same"
            )
            values = np.linspace(-4, 4, COLUMNS)
            ways.append(kg.control.traverse(model, latents[:1], found.vector, values)[0])
        if ways:
            yield "directions", shown(np.stack(ways))

    found, errors = kg.control.invert(model, pictures, labels, steps=steps, seed=seed)
    print(f"inversion: mean squared errors {np.round(errors, 4).tolist()}, pixels in [-1, 1]")
    yield "invert", shown(np.stack([pictures, model.decode(found, labels)], 1))


def encoded_strips(model, pictures, labels, source, steps, seed):
    """As `strips`, of an autoencoder; `source` has the images that units are judged by."""
    rows = len(pictures)
    labelled = () if labels is None else (labels,)
    yield "reconstruct", _beside(pictures[:, None], model.reconstruct(pictures, *labelled), rows)
    if isinstance(model, kg.models.VQVAE):
        return
    first, second = pictures[: rows // 2], pictures[rows // 2 : rows // 2 * 2]
    pair_labels = None if labels is None else labels[: rows // 2]
    between = model.interpolate(first, second, COLUMNS, pair_labels)
    yield "interpolate", between.reshape(-1, *model.image_shape)

    source = source()
    many, classes = source.take(min(500, len(source)), seed=seed)
    latents = model.latents(many, None if labels is None else classes)
    units = np.argsort(-latents.var(axis=0))[:rows]
    values = np.linspace(-3, 3, COLUMNS) * max(1.0, float(latents[:, units].std()))
    varied = model.traverse(pictures[:1], values, units, None if labels is None else labels[:1])
    yield "traverse", varied.reshape(-1, *model.image_shape)
    if (model.latent_dim, model.noise_dim) == (2, 2):
        label = None if labels is None else int(labels[0])
        yield "manifold", model.manifold(COLUMNS, label).reshape(-1, *model.image_shape)


def completed_strips(model, pictures, labels, source, steps, seed):
    """As `strips`, of a PixelCNN."""
    yield "complete", _lower_halves(model.complete, pictures, labels, seed=seed)


def _lower_halves(draw, pictures, labels, **how):
    """Pictures, the same without their lower halves, and drawings of these."""
    times, (height, width) = COLUMNS - 2, pictures.shape[1:3]
    mask = np.zeros((height, width), bool)
    mask[height // 2 :] = True
    labels = None if labels is None else np.repeat(labels, times)
    drawn = draw(np.repeat(pictures, times, axis=0), mask, labels, **how)
    hidden = np.where(mask[..., None], 128, pictures).astype(np.uint8)
    return _beside(np.stack([pictures, hidden], axis=1), drawn, len(pictures))


def like(model):
    """How data are loaded to be as the images of the model."""
    height, width, channels = model.image_shape
    return {"image_size": (height, width), "channels": channels}


def _beside(given, drawn, rows):
    drawn = drawn.reshape(rows, -1, *given.shape[2:])
    return np.concatenate([given, drawn], axis=1).reshape(-1, *given.shape[2:])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", help=".keras file of a Diffusion, a GAN, an autoencoder or a PixelCNN"
    )
    parser.add_argument("--data", default="digits", help="held-out images to start from")
    parser.add_argument("--data-dir", help="folder of the prepared TFDS data sets")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16, help="of the sampler")
    parser.add_argument("--inversion-steps", type=int, default=300, help="of a GAN")
    parser.add_argument("--scale", type=int, default=2, help="how much the pixels are magnified")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("control"), help="folder")
    args = parser.parse_args()
    if args.rows < 2:
        parser.error(f"--rows must be at least 2, as there are pairs. Received: {args.rows}")

    model = keras.saving.load_model(args.model)
    draw = strips_of(model)
    source = kg.data.load(args.data, args.split, **like(model), data_dir=args.data_dir)
    pictures, labels = source.take(args.rows, seed=args.seed)
    labels = labels if model.num_classes else None
    args.output.mkdir(parents=True, exist_ok=True)
    provenance = kg.images.Provenance(model.name, model.weights_hash(), args.seed)
    known = partial(kg.data.load, args.data, **like(model), data_dir=args.data_dir)
    steps = args.inversion_steps if isinstance(model, kg.models.GAN) else args.steps
    for name, images in draw(model, pictures, labels, known, steps, args.seed):
        picture = kg.images.grid(images, columns=COLUMNS, scale=args.scale)
        kg.images.write_png(args.output / f"{name}.png", picture, provenance)
        print(args.output / f"{name}.png")


if __name__ == "__main__":
    main()
