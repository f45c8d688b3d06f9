#!/usr/bin/env bash
# Where a model is wanted: names of the hub in its cache, and whatever else people give. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
small=(--data.max_length 96 --optim.max_steps 2 --optim.batch_size 4 --optim.micro_batch_tokens 256 --data.train world/sft.jsonl)
# says TEXT: the last command did on standard error.
says() { grep -qF -- "$1" "$work/log" || fail "expected '$1' in: $(cat "$work/log")"; }

# -- the hub's cache, as its tools leave it: links to blobs
commit=0123456789abcdef0123456789abcdef01234567
newer=89abcdef0123456789abcdef0123456789abcdef
cached() { # CACHE FOLDER COMMIT DIRECTORY: the directory as a snapshot
  local folder=$1/models--$2 file name
  mkdir -p "$folder"/{blobs,refs} "$folder/snapshots/$3"
  for file in "$4"/*; do
    name=$(sha256sum "$file" | cut -c1-64)
    cp "$file" "$folder/blobs/$name"
    ln -sf "../../blobs/$name" "$folder/snapshots/$3/${file##*/}"
  done
}
cache=$work/home/.cache/huggingface/hub
cached "$cache" Tiny--little-1.0 $commit world/base
printf %s $commit >"$cache/models--Tiny--little-1.0/refs/main"
cached "$cache" oldname $commit world/base
printf %s $commit >"$cache/models--oldname/refs/main"
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HOME XDG_CACHE_HOME
export HOME=$work/home

pass "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled --run.dir runs/hub
says "model.path: Tiny/little-1.0 is the snapshot $cache/models--Tiny--little-1.0/snapshots/$commit"
pass "$bin/sft" --model.path world/base "${small[@]}" --lora.enabled --run.dir runs/path
cmp runs/hub/adapter/adapter_model.safetensors runs/path/adapter/adapter_model.safetensors || fail "another model than the directory's"
cmp runs/hub/adapter/identity.json runs/path/adapter/identity.json || fail "the identity depends on the path"
# What is recorded names the snapshot, and not where the cache lies.
[[ $(jq -r .model.path runs/hub/config.json) == Tiny/little-1.0@$commit ]] || fail "config.json: $(jq .model runs/hub/config.json)"
[[ $(jq -r '"\(.base_model_name_or_path) \(.revision)"' runs/hub/adapter/adapter_config.json) == "Tiny/little-1.0 $commit" ]] || fail "$(cat runs/hub/adapter/adapter_config.json)"
[[ $(jq -r '"\(.base_model_name_or_path) \(.revision)"' runs/path/adapter/adapter_config.json) == "world/base null" ]] || fail "$(cat runs/path/adapter/adapter_config.json)"
note "a name is the snapshot in the cache"

# The same run by its name, its revision, its directory; also when the cache has moved, and by the recorded configuration.
again() { pass "$@" --run.dir runs/hub; says 'is finished already'; }
again "$bin/sft" --model.path Tiny/little-1.0@main "${small[@]}" --lora.enabled
again "$bin/sft" --model.path Tiny/little-1.0@$commit "${small[@]}" --lora.enabled
again "$bin/sft" --model.path "$cache/models--Tiny--little-1.0/snapshots/$commit" "${small[@]}" --lora.enabled
mv home/.cache/huggingface elsewhere
refuse 6 "no model of that name in the hub's cache ($cache); to fetch it: hf download Tiny/little-1.0" \
  "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled --run.dir runs/hub
HF_HOME=$work/elsewhere again "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled
HF_HUB_CACHE=$work/elsewhere/hub HF_HOME=/nowhere again "$bin/sft" --config runs/hub/config.json
HUGGINGFACE_HUB_CACHE=$work/elsewhere/hub again "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled
mv elsewhere/hub elsewhere/x && mkdir -p xdg/huggingface && mv elsewhere/x xdg/huggingface/hub
XDG_CACHE_HOME=$work/xdg again "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled
mkdir -p home/.cache && mv xdg/huggingface home/.cache/huggingface
# When the branch has moved on, the former run is not continued as if nothing were: and the old revision is still there.
sed 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 1e-06/' world/base/config.json >config.json
cp -r world/base moved && cp config.json moved/config.json
cached "$cache" Tiny--little-1.0 $newer moved
printf %s $newer >"$cache/models--Tiny--little-1.0/refs/main"
refuse 2 "model.path (was \"Tiny/little-1.0@$commit\", is \"Tiny/little-1.0@$newer\")" "$bin/sft" --model.path Tiny/little-1.0 "${small[@]}" --lora.enabled --run.dir runs/hub
again "$bin/sft" --model.path Tiny/little-1.0@$commit "${small[@]}" --lora.enabled
printf %s $commit >"$cache/models--Tiny--little-1.0/refs/main"
note "what is recorded finds the model again"

# Other programs, other options, names without an owner.
pass "$bin/merge" --model Tiny/little-1.0 --adapter runs/hub/adapter --out merged --distance false
pass "$bin/merge" --model world/base --adapter runs/path/adapter --out merged2 --distance false
cmp merged/model.safetensors merged2/model.safetensors || fail "merged over another model"
pass "$bin/export" runs/hub
cmp runs/hub/adapter/adapter_model.safetensors runs/hub/exports/step-2/adapter_model.safetensors || fail "an export"
pass "$bin/generate" --model oldname --adapter runs/hub/adapter --prompt red --max-new-tokens 3 --ignore-eos
says '--model: oldname is the snapshot'
pass "$bin/inspect" model --model Tiny/little-1.0
pass "$bin/inspect" tokens --model Tiny/little-1.0@main --text red
pass "$bin/reward" --model.path oldname --model.adapter runs/hub/adapter --data.train world/prefs.jsonl --data.max_length 96 --optim.max_steps 1 \
  --optim.batch_size 4 --optim.micro_batch_tokens 256 --lora.enabled --run.dir runs/reward
pass "$bin/ppo" --check --model.path Tiny/little-1.0 --model.adapter runs/hub/adapter --reward.path oldname --reward.adapter runs/reward/adapter \
  --lora.enabled --data.prompts world/prompts.jsonl --data.max_length 64 --rollout.max_new_tokens 4 --ppo.batch_size 4 --run.dir runs/ppo
says 'reward.path: oldname is the snapshot'
[[ ! -e runs/ppo ]] || [[ $(ls runs/ppo) == cache ]] || fail "--check left $(ls runs/ppo)"
cat >pipeline.yaml <<'END'
dir: runs/pipeline # by a name of the hub
stages:
  - stage: sft
    model: oldname
    config:
      lora: {enabled: true}
      data: {train: world/sft.jsonl, max_length: 96}
      optim: {max_steps: 1, batch_size: 4, micro_batch_tokens: 256}
  - {name: final, stage: merge, model: sft}
END
expect 'runs/pipeline/final/model' "$drover" run pipeline.yaml
sed -i 's/oldname/oldnam/' pipeline.yaml
refuse 2 "stage 'sft': key 'model': expected an earlier stage or a model, found 'oldnam': there is no directory oldnam" "$drover" run pipeline.yaml --check
sed -i 's|oldnam|runs/hub/adapter|' pipeline.yaml
refuse 2 "found 'runs/hub/adapter': runs/hub/adapter is an adapter" "$drover" run pipeline.yaml --check
note "merge, export, generate, inspect, reward, ppo, pipelines"

# -- what is not there
absent() { refuse 6 "$1" "$bin/sft" --check "${@:2}"; }
absent "there is no directory Tiny/litle-1.0, and no model of that name in the hub's cache ($cache); to fetch it: hf download Tiny/litle-1.0" --model.path Tiny/litle-1.0
absent "and no revision of that name in the hub's cache ($cache); to fetch it: hf download Tiny/little-1.0 --revision v2" --model.path Tiny/little-1.0@v2
absent "there is no directory world/bse (did you mean world/base?), and no model" --model.path world/bse
absent "there is no directory ./wrld; did you mean ./world?" --model.path ./wrld
absent "there is no directory /no/such/model" --model.path /no/such/model
absent "~ stands for the home directory on a command line alone" --model.path '~/models/x'
absent "model.adapter: there is no directory runs/path/adaptor; did you mean runs/path/adapter?" --model.path world/base --model.adapter runs/path/adaptor
refuse 6 "--model: there is no directory Tiny/x, and no model" "$bin/generate" --model Tiny/x --prompt red
mkdir -p "$cache/models--Tiny--part/snapshots/$commit" "$cache/models--Tiny--part/refs"
cp world/base/{config,tokenizer,tokenizer_config}.json "$cache/models--Tiny--part/snapshots/$commit"
printf %s $commit >"$cache/models--Tiny--part/refs/main"
refuse 4 "to fetch it: hf download Tiny/part --revision $commit" "$bin/sft" --model.path Tiny/part "${small[@]}" --run.dir runs/part
note "what is not there, and how to fetch it"

# -- what is something else: the same for a run and for --check, and nothing is left behind
other() { # TEXT OPTIONS...
  local text=$1
  shift
  for how in --run.dir "--check --run.dir"; do # split into words
    refuse 2 "$text" "$bin/sft" "${small[@]}" "$@" $how runs/other
    [[ ! -e runs/other ]] || fail "$* left something"
  done
}
other "model.path: runs/path/adapter is an adapter, trained over world/base, expected a model: give that model, and the adapter as model.adapter" --model.path runs/path/adapter/
other "model.adapter: world/base is a model, expected an adapter (a directory with adapter_config.json): give it as model.path" --model.path world/base --model.adapter world/base
other "model.path: runs/path is the directory of a run, expected a model: it trained an adapter, runs/path/adapter: give that as model.adapter, and the model under it as model.path" --model.path runs/path
other "model.adapter: runs/path is the directory of a run, expected an adapter: give its result runs/path/adapter" --model.path world/base --model.adapter runs/path
pass "$bin/sft" --model.path world/base "${small[@]}" --run.dir runs/full
other "model.path: runs/full is the directory of a run, expected a model: give its result runs/full/model" --model.path runs/full
other "model.path: runs/full/checkpoints/step-2 is a checkpoint, expected a model or adapter; make one of it: drover export runs/full --step 2" --model.path runs/full/checkpoints/step-2
rm -r runs/full/model runs/full/done.json
other "model.path: runs/full is the directory of a run, expected a model: it has no such result yet: make one of a checkpoint: drover export runs/full --step N" --model.path runs/full
other "model.path: $cache/models--Tiny--little-1.0 is the folder of a model in the hub's cache: give the model's name, or a directory in" --model.path "$cache/models--Tiny--little-1.0"
other "model.path: world/base/model.safetensors is one file of a model: give the directory, world/base" --model.path world/base/model.safetensors
other "model.path: world/base/config.json is one file of a model: give the directory, world/base" --model.path world/base/config.json
other "model.adapter: runs/path/adapter/adapter_model.safetensors is one file of an adapter: give the directory, runs/path/adapter" --model.path world/base --model.adapter runs/path/adapter/adapter_model.safetensors
mkdir -p meta deep files && : >files/alone.pt && : >x.gguf && : >meta/params.json && : >meta/consolidated.00.pth && cp -r world/base deep/inner
other "model.path: files/alone.pt is a file of weights alone; expected a directory with config.json" --model.path files/alone.pt
other "model.path: world/sft.jsonl is a file; expected a directory of a model, or a GGUF file" --model.path world/sft.jsonl
other "model.adapter: x.gguf is a GGUF file; expected the directory of an adapter" --model.path world/base --model.adapter x.gguf
other "model.path: meta has the files of the model's maker (params.json)" --model.path meta
other "model.path: deep has no config.json; did you mean deep/inner?" --model.path deep
refuse 2 "--adapter: runs/path is the directory of a run, expected an adapter: give its result runs/path/adapter" "$bin/merge" --model world/base --adapter runs/path --out m
refuse 2 "--model: runs/path/adapter is an adapter, trained over world/base, expected a model: give that model, and the adapter as --adapter" "$bin/generate" --model runs/path/adapter --prompt red
refuse 2 "--into: runs/path/adapter is an adapter, trained over world/base, expected a model: give that model, and the adapter as a model of its own (drover merge)" \
  "$bin/merge" --model world/base --adapter runs/path/adapter --into runs/path/adapter --out m
note "adapters, runs, checkpoints and files in the place of models"
echo "models: found by name, path, or what was meant"
