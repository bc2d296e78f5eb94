"""Does a training with several rewards reach all of them? Methods and ablations, run by run."""
