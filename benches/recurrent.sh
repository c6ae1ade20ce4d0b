#!/usr/bin/env bash
# Mamba-2 of 1.3B and Qwen3-Next of 1B, 8 records of 2,048 tokens, by turns with transformers (its own fallback, weights in memory, two threads):
#
#   benches/recurrent.sh FOLDER [ROUNDS] [RECORDSxTOKENS]
#
# Checkpoints and datasets go to FOLDER where they are not there yet, raw results to benches/results/. Needs `python` with the pinned
# packages of tools/goldens/requirements.txt, target/release/sli, and root for the page cache (side-by-side.py).
set -e
cd "$(dirname "$0")/.."
folder=${1:?a folder for checkpoints}
rounds=${2:-2}
records=${3:-8x2048}
for model in mamba2-1.3b qwen3_next-1b; do
    if [ ! -e "$folder/$model/$records.jsonl" ]; then
        python benches/synthetic.py "benches/shapes/$model.json" "$folder/$model" "$records"
    fi
    python benches/side-by-side.py "$folder/$model" "$folder/$model/$records.jsonl" \
        --memory 6GiB --cap 8GiB --systems sli,ram --rounds "$rounds" > "benches/results/$model-$records.jsonl"
    tail -n 1 "benches/results/$model-$records.jsonl"
done
