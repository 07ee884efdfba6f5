#!/usr/bin/env bash
# Train on two nodes of four GPUs each. A job that reaches its time limit or is preempted requeues
# itself and resumes.
#   sbatch experiments/slurm/submit.sh two_levels
# Lightning reads nodes and ranks from SLURM. 90 seconds before the time limit, SLURM sends SIGTERM; training then
# saves its current step and exits with code 143, and this script requeues the job. The new run resumes from the last
# checkpoint (--ckpt_path last). After a node failure, this checkpoint is at most 500 steps old.
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
