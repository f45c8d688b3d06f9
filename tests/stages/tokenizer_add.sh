#!/usr/bin/env bash
# tokenizer add: old tokens and their rows are as they were, new rows are the mean, and what is written is a model that every
# program opens. $1: the folder of the executables. (tests/tokenizer/add.sh asks Transformers.)
bin=$1
source tests/support/stages.sh
fixtures=$PWD/tests/fixtures
make_world "$work/world"
cd "$work"

model() { # NAME TOKENIZER-FOLDER TIED VOCABULARY
  mkdir -p "$1.tokenizer"
  cp "$2"/* "$1.tokenizer"
  echo '{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 128}' | jq --argjson tied "$3" --argjson size "$4" \
    '.tie_word_embeddings = $tied | .vocab_size = $size' >"$1.json"
  pass "$bin/init" --config "$1.json" --tokenizer "$1.tokenizer" --out "$1"
}
mkdir qwen2 pieces
cp "$fixtures/tokenizer/qwen2/tokenizer.json" qwen2
echo '{"eos_token": "<|im_end|>", "added_tokens_decoder": {"802": {"content": "<|im_end|>", "special": true}}}' \
  >qwen2/tokenizer_config.json
cp "$fixtures/tokenizer/sources/llama.model" pieces/tokenizer.model
echo '{"tokenizer_class": "LlamaTokenizer", "add_bos_token": true}' >pieces/tokenizer_config.json
model untied qwen2 false 803
model tied qwen2 true 810
model spm pieces false 640

# numbers DIRECTORY TENSOR: its values, a row a line
numbers() {
  local file=$1/model.safetensors size
  size=$(($(od -An -tu8 -N8 "$file")))
  head -c $((8 + size)) "$file" | tail -c "$size" | jq -r --arg name "$2" '.[$name] | .data_offsets[], .shape[1]' |
    paste -sd' ' | {
      read -r from to width
      od -An -v -tf4 -w$((4 * width)) -j $((8 + size + from)) -N $((to - from)) "$file"
    }
}
# rows_are OLD NEW TENSOR TOKENS NEW-ROWS: rows of old tokens are the same, each new one is their mean
rows_are() {
  numbers "$1" "$3" | sed -n "1,$4p" >old
  numbers "$2" "$3" | sed -n "1,$4p" | cmp - old || fail "$2: $3: rows of old tokens have changed"
  numbers "$2" "$3" | tail -n +$(($4 + 1)) >new
  [[ $(wc -l <new) == "$5" ]] || fail "$2: $3: $(wc -l <new) new rows"
  awk 'NR == FNR { for (i = 1; i <= NF; i++) sum[i] += $i; rows++; next }
    { for (i = 1; i <= NF; i++) { off = $i - sum[i] / rows; if (off > 1e-6 || off < -1e-6) exit 1 } }' old new ||
    fail "$2: $3: a new row is not the mean"
}

pass "$bin/tokenizer" add untied --out untied-new --special '<|new_a|>,<|new_b|>' --token wonderword --json
jq -e '.first == 803 and .count == 3 and .rows == 806' out >/dev/null || fail "$(cat out)"
[[ $(jq .vocab_size untied-new/config.json) == 806 ]] || fail "vocab_size"
jq -e '.added_tokens_decoder | keys == ["802", "803", "804", "805"]' untied-new/tokenizer_config.json >/dev/null ||
  fail "$(cat untied-new/tokenizer_config.json)"
for tensor in model.embed_tokens.weight lm_head.weight; do rows_are untied untied-new $tensor 803 3; done
pass "$bin/tokenizer" add --model tied --out tied-new --token '["a,b", " c"]' --multiple 16
[[ $(jq .vocab_size tied-new/config.json) == 810 ]] || fail "the table has room for the new tokens"
numbers tied model.embed_tokens.weight | sed -n 1,803p >old
numbers tied-new model.embed_tokens.weight | sed -n 1,803p | cmp - old
[[ $(numbers tied-new model.embed_tokens.weight | sed -n '804,805p' | sort -u | wc -l) == 1 ]] || fail "rows 803 and 804"
numbers tied model.embed_tokens.weight | tail -n 5 >old
numbers tied-new model.embed_tokens.weight | tail -n 5 | cmp - old || fail "rows that no token has have changed"
pass "$bin/tokenizer" add spm --out spm-new --special '<|im_start|>' --multiple 64
rows_are spm spm-new lm_head.weight 640 64
[[ -e spm-new/tokenizer.json && ! -e spm-new/tokenizer.model ]] || fail "$(ls spm-new)"
note "rows"

ids() { pass "$bin/inspect" tokens --model "$1" --text "$2" --json && jq -c .ids out; }
[[ $(ids untied 'Hello  world 123') == "$(ids untied-new 'Hello  world 123')" ]] || fail "other ids"
[[ $(ids spm ' Hello <s> wörld  ') == "$(ids spm-new ' Hello <s> wörld  ')" ]] || fail "other ids of pieces"
[[ $(ids untied-new '<|new_b|>wonderword') == '[804,805]' ]] || fail "$(ids untied-new '<|new_b|>wonderword')"
[[ $(ids tied-new 'a,b c') == '[803,804]' ]] || fail "$(ids tied-new 'a,b c')"
[[ $(ids spm-new '<|im_start|>' | jq -c '.[1:]') == '[640]' ]] || fail "$(ids spm-new '<|im_start|>')"
# Logits of old tokens are the same: log-probabilities differ by one number.
for name in untied spm; do
  logprobs() { pass "$bin/inspect" logprobs --model "$1" --ids "5,$2" --json && jq .logprobs[0] out; }
  awk -v a="$(logprobs $name 7)" -v b="$(logprobs $name 99)" -v c="$(logprobs $name-new 7)" -v d="$(logprobs $name-new 99)" \
    'BEGIN { off = (a - b) - (c - d); exit !(off < 1e-5 && off > -1e-5) }' || fail "$name: other logits"
done
note "ids and logits"

pass "$bin/sft" --model.path untied-new --data.train world/sft.jsonl --data.template chatml --optim.max_steps 1 \
  --optim.batch_size 4 --run.dir run
pass "$bin/tokenizer" add run/model --out again --token more
[[ $(jq .vocab_size again/config.json) == 807 ]] || fail "again"
pass "$bin/generate" --model again --prompt "Hello wonderword" --max-new-tokens 3

refuse 2 "found none" "$bin/tokenizer" add untied --out no
refuse 2 "is in the vocabulary already, with the id 802" "$bin/tokenizer" add untied --out no --token '<|im_end|>'
refuse 2 "is given twice" "$bin/tokenizer" add untied --out no --token 'x y z w,x y z w'
refuse 2 "found a model in it" "$bin/tokenizer" add untied --out tied --token more
refuse 5 "can be used" "$bin/tokenizer" add untied --out no --token more --memory-limit 100KiB
refuse 2 "usage: drover tokenizer add" "$bin/tokenizer" remove
pass "$bin/tokenizer" add untied --out no --token more --check
pass "$bin/tokenizer" add untied --out fresh/folder --token more --check
[[ ! -e fresh ]] || fail "--check made a folder"
# Killed at any moment, it leaves nothing beside the model that the next one does not remove.
mkdir killed temporary
for moment in 0.002 0.005 0.01 0.02 0.03 0.05 0.08; do
  TMPDIR=$work/temporary timeout -s KILL $moment "$bin/tokenizer" add untied --out killed/model --token more >/dev/null 2>&1 || true
  rm -rf killed/model
done
TMPDIR=$work/temporary pass "$bin/tokenizer" add untied --out killed/model --token more
[[ $(ls -A killed) == model && -z $(ls -A temporary) ]] || fail "left: $(ls -A killed temporary)"
[[ -z $(compgen -G 'no*') ]] || fail "left behind: $(compgen -G 'no*')"
echo "tokenizer add: passed"
