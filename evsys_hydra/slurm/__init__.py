"""SLURM: each arm a task of a job array, a finalizer job that concludes, and causes without accounting.

`submit` sends arms and their finalizer, `job` is what an array task runs, `wait` is the driver's side, `settle` speaks
for arms that could not, `finalizer` concludes when the last arm has ended. Everything between them goes through the
experiment's directory: `slurm/<generation>.json` says which job has which arms.
"""
