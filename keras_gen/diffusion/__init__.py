"""Diffusion and flow mathematics: no networks, no `keras.Model`.

A path says how noise is mixed, x_t = alpha(t) x_0 + sigma(t) noise; a prediction, what the network
puts out; a weighting and a sampler of times, what it is trained on; a grid and a sampler, how noise
becomes data again.

```python
path, prediction = diffusion.get_path("rectified_flow"), diffusion.get_prediction("velocity")
times = diffusion.get_grid("uniform")(path, 50)
images = diffusion.heun(denoise, path, path.prior(noise), times)
```
"""

from keras_gen.diffusion.control import inpaint, renoise, slerp
from keras_gen.diffusion.grids import GRIDS, get_grid, jumps, karras, logsnr, uniform
from keras_gen.diffusion.guidance import guide
from keras_gen.diffusion.likelihood import (
    dequantize,
    ode_log_likelihood,
    rademacher,
    unit_probes,
    variational_bound,
)
from keras_gen.diffusion.paths import (
    EDM,
    PATHS,
    Cosine,
    DiscretePath,
    Linear,
    Path,
    RectifiedFlow,
    combine,
    get_path,
)
from keras_gen.diffusion.predictions import (
    PREDICTIONS,
    DataPrediction,
    NoisePrediction,
    PreconditionedPrediction,
    Prediction,
    VelocityPrediction,
    convert,
    get_prediction,
)
from keras_gen.diffusion.samplers import (
    SAMPLERS,
    consistency,
    ddim,
    ddpm,
    dpmpp_2m,
    euler,
    flow_map,
    get_sampler,
    heun,
    heun_step,
)
from keras_gen.diffusion.times import (
    TIME_SAMPLERS,
    DiscreteTimes,
    LogitNormalTimes,
    LogNormalTimes,
    StratifiedTimes,
    TimeSampler,
    UniformTimes,
    get_time_sampler,
)
from keras_gen.diffusion.weightings import (
    WEIGHTINGS,
    EDMWeighting,
    MinSNRWeighting,
    UniformWeighting,
    Weighting,
    get_weighting,
)
