#!/bin/bash
# Everything that has to be measured on a GPU, in pieces of less than ten minutes on an H100, the most
# telling first. A piece whose table lies in results/gpu is skipped, so a run that was cut off goes on.
#
#   benchmarks/gpu.sh [PIECE...]     training compiled attention generation text star_graphs
#   DEVICE=cpu benchmarks/gpu.sh     the same at toy size, to try the script
set -u
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda}
[ "$DEVICE" = cuda ] && name=gpu || name=gpu-$DEVICE # so that a trial does not pass for the measurement
OUT=${OUT:-results/$name} runs=lightning_logs/$name
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$OUT"

large="--width 1024 --depth 12 --tokens 65536" wide="--tokens 65536 --heads 16 --windows [128,1024]"
write="" contexts="2048 8192" steps=${STEPS:-4000} lines=512 toy=()
if [ "$DEVICE" = cpu ]; then
  large="--width 64 --depth 2 --tokens 1024 --steps 1 --precision fp32" wide="--tokens 1024 --heads 1 --lengths [512] --windows [32] --turns 1"
  write="--width 64 --depth 2 --heads 2 --context 1200 --window 64 --tokens 8 --turns 2" contexts="256 512" steps=10 lines=8
  toy=(--flops 1e9 --seeds '[0]' --output "$OUT" --logs "$OUT/logs" --options '{model.config.context_length: 64, model.config.width: 32,
    model.config.num_heads: 2, data.batch_size: 1, data.eval_batch_size: 1, trainer.limit_val_batches: 1, sample.max_new_tokens: 0}')
fi

piece() { # piece NAME COMMAND...: keep what the command prints
  local name=$1
  shift
  [ -s "$OUT/$name.md" ] && return
  echo "== $name: $*"
  "$@" 2> "$OUT/$name.log" | tee "$OUT/$name.part"
  if [ "${PIPESTATUS[0]}" = 0 ]; then
    mv "$OUT/$name.part" "$OUT/$name.md" && rm -f "$OUT/$name.log"
  else
    tail -n 20 "$OUT/$name.log"
  fi
}

star_graphs() { # three at once, because steps this small leave a GPU idle
  local graph pid failed=0 pids=()
  for graph in d2_l10 d5_l5 d7_l7; do
    python -m nextconcept fit --config star_graph/two_levels_$graph --trainer.max_steps $steps \
      --trainer.val_check_interval $((steps / 5)) --trainer.limit_val_batches 1 --trainer.enable_progress_bar false \
      --plan_view.windows 0 --trainer.logger.init_args.save_dir "$runs" \
      --data.init_args.batch_size $lines > "$OUT/$graph.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
  [ $failed = 0 ] || { tail -n 3 "$OUT"/d*.log >&2; return 1; }
  python benchmarks/curves.py --folder "$runs" --tags val/answer/exact,val/answer/first_branch,train/tokens_per_second
}

text() { # finished runs stay, so a piece that was cut off goes on
  local comparison
  for comparison in python_2048_gpu law/python_gpu; do
    python -m nextconcept compare --config comparisons/$comparison --jobs 5 --threads 1 ${toy[@]+"${toy[@]}"}
  done
}

for name in ${*:-training compiled attention generation text star_graphs}; do
  case $name in
    training)
      for context in $contexts; do
        piece training_$context python benchmarks/gpu_training.py $large --contexts "[$context]" --device $DEVICE
      done
      piece training_window python benchmarks/gpu_training.py $large --contexts "[${contexts##* }]" --window 256 \
        --device $DEVICE
      piece training_512 python benchmarks/gpu_training.py $large --width 512 --device $DEVICE ;;
    compiled) piece compiled python benchmarks/gpu_training.py $large --contexts "[${contexts%% *}]" --device $DEVICE --compile true ;;
    attention) piece attention python benchmarks/attention.py $wide --device $DEVICE --precision bf16 ;;
    generation) piece generation python benchmarks/generation.py $write --device $DEVICE ;;
    text) piece text text ;;
    star_graphs) piece star_graphs star_graphs ;;
    *) echo "gpu.sh: no piece '$name'; there are training, compiled, attention, generation, text and star_graphs" >&2; exit 2 ;;
  esac
done
