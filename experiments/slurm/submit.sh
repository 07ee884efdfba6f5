#!/usr/bin/env bash
# Two nodes of four GPUs; goes on by itself when the time is up or the job is preempted.
#   sbatch experiments/slurm/submit.sh experiments/two_levels.yaml
# Lightning reads nodes and ranks from SLURM. 90 seconds before the end SLURM signals, and Lightning requeues the job; then, or after a
# node has failed, --ckpt_path last goes on from the newest last.ckpt of this run, at most 500 steps back.
#SBATCH --job-name=nextconcept
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
srun nextconcept fit --config "$1" --config experiments/trainer/ddp.yaml \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --last.every_n_train_steps 500 --ckpt_path last
