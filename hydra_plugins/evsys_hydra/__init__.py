"""What Hydra finds: the launcher, the sweeper and the source of experiment folders, each a few lines."""
