#!/usr/bin/env bash
# Two nodes of four GPUs; the job continues by itself when its time is up or it is preempted.
#   sbatch experiments/slurm/submit.sh two_levels
# Lightning reads nodes and ranks from SLURM. 90 seconds before the end SLURM sends SIGTERM; the run
# finishes its step, saves, exits with code 143, and the job is requeued. --ckpt_path last then
# continues from that step, or, after a node has failed, from at most 500 steps back.
#SBATCH --job-name=nextconcept
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
code=0
srun nextconcept fit --config "$1" --config trainer/ddp \
    --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --last.every_n_train_steps 500 --ckpt_path last || code=$?
if [ "$code" = 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
