"""Training: the Trainer, its engines, checkpoints, callbacks and run folders. Import the modules; this one is empty."""
