"""Generative image models as plain Keras models.

```python
import keras_gen as kg

source = kg.data.load("digits")
model = kg.models.GAN(source.image_shape, num_classes=source.num_classes)
model.compile()
model.fit(source.batches(64), epochs=20)
images = model.generate(16, labels=3, seed=0)
```
"""

from keras_gen.startup import quiet_command_line

with quiet_command_line():
    from keras_gen import (
        callbacks,
        control,
        data,
        diffusion,
        images,
        layers,
        losses,
        metrics,
        models,
        networks,
        optimizers,
        randomness,
        schedules,
    )
from keras_gen.version import __version__
