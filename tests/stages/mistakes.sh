#!/usr/bin/env bash
# What people get wrong, and the sentence that leads on from there: options, files, models, the order of stages. Each row is
# given to the program and to its --check, which must agree; --check leaves nothing but tokenised data, and a run no result.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
unset HF_HUB_CACHE HF_HOME && export HF_HUB_CACHE=$work/hub
rows=0
# left WHAT: nothing of a run is there.
left() {
  [[ ! -e run ]] || [[ -z $(find run -mindepth 1 ! -name lock ! -path 'run/cache*') ]] || fail "$1: left $(find run -mindepth 1 | head -n 5)"
  rm -rf run
}
wrong() { # CODE TEXT COMMAND...
  local code=$1 text=$2
  shift 2
  rm -rf run
  refuse "$code" "$text" "$@" --check
  left "--check of $*"
  refuse "$code" "$text" "$@"
  left "$*"
  rows=$((rows + 1))
}
short=(--data.max_length 96 --optim.micro_batch_tokens 256 --optim.batch_size 4 --optim.max_steps 1 --run.dir run)
sft=("$bin/sft" "${short[@]}" --model.path world/base)
reward=("$bin/reward" "${short[@]}" --model.path world/base)
dpo=("$bin/dpo" "${short[@]}" --model.path world/base)
ppo=("$bin/ppo" --data.max_length 64 --rollout.max_new_tokens 8 --ppo.batch_size 4 --ppo.total_episodes 4 --lora.enabled --run.dir run
  --model.path world/base --data.prompts world/prompts.jsonl)
train=(--data.train world/sft.jsonl) pairs=(--data.train world/prefs.jsonl)

# -- options
wrong 2 "unknown option '--optim.lrr'; did you mean '--optim.lr'?" "${sft[@]}" "${train[@]}" --optim.lrr 1
wrong 2 "unknown option '--learning_rate'; here it is '--optim.lr'" "${sft[@]}" "${train[@]}" --learning_rate 1e-4
wrong 2 "unknown option '--lr'; did you mean '--optim.lr'?" "${sft[@]}" "${train[@]}" --lr 1e-4
wrong 2 "unexpected argument 'world/sft.jsonl'; options begin with --" "${sft[@]}" world/sft.jsonl
wrong 2 "--lora.enabled: expected true or false, found 'yes'" "${sft[@]}" "${train[@]}" --lora.enabled yes
wrong 2 "'lienar' is not one of constant, linear, cosine; did you mean 'linear'?" "${sft[@]}" "${train[@]}" --optim.schedule lienar
wrong 2 "--lora.r: 0 is out of range, expected 1 .. 4096" "${sft[@]}" "${train[@]}" --lora.enabled --lora.r 0
wrong 2 "data.eval and data.eval_fraction are both given: choose one" "${sft[@]}" "${train[@]}" --data.eval world/sft.jsonl --data.eval_fraction 0.1
wrong 2 "optim.warmup_steps and optim.warmup_ratio are both given: choose one" "${sft[@]}" "${train[@]}" --optim.warmup_steps 2 --optim.warmup_ratio 0.1
wrong 2 "model.quantize is for a base that is not trained: set lora.enabled" "${sft[@]}" "${train[@]}" --model.quantize nf4
wrong 2 "ppo.minibatches: expected a divisor of ppo.batch_size 4, found 3" "${ppo[@]}" --reward.path world/base --ppo.minibatches 3
wrong 2 "the longest example has 28 tokens, optim.micro_batch_tokens is 16: raise it to that, or lower data.max_length" "${sft[@]}" "${train[@]}" --optim.micro_batch_tokens 16
wrong 2 'unknown chat template "chatlm" (known: plain, chatml' "${sft[@]}" "${train[@]}" --data.template chatlm
option() { wrong "$1" "$2" "${sft[@]}" "${train[@]}" "${@:3}"; }
option 2 "unknown option '--lora'; 'lora' is a section of options: --help lora lists them" --lora 8
option 2 "unknown option '--ppo.kl_coef'; the options 'ppo.*' are those of ppo" --ppo.kl_coef 0.1
option 2 "unknown option '--reward.path'; the options 'reward.*' are those of reward, ppo and sample" --reward.path world/base
option 2 "unknown option '--data.prompts'; it is an option of ppo" --data.prompts world/prompts.jsonl
option 2 "'float32' is not one of auto, f32, bf16; here it is 'f32'" --model.dtype float32
option 2 "'adamw_torch' is not one of adamw, lion, sgd; did you mean 'adamw'?" --optim.name adamw_torch
option 2 "unknown option '--optim.wd'; did you mean '--optim.weight_decay'?" --optim.wd 0.1
option 2 "unknown option '--optim.grad_accum'; here it is '--optim.batch_size': per_device_train_batch_size x" --optim.grad_accum 4
option 2 "optim.weight_decay: expected less than 1 / optim.lr, since each update takes" --optim.weight_decay 1000 --optim.lr 1e-3
wrong 2 "optim.weight_decay: expected less than 1 / ppo.critic_lr; found 1000 with" "${ppo[@]}" --reward.path world/base --optim.weight_decay 1000 --ppo.critic_lr 1e-3
option 2 "--optim.lr: -0.0001 is out of range, expected >= 0" --optim.lr -1e-4
option 2 "--optim.lr: expected a number, found '2,5e-4'" --optim.lr 2,5e-4
option 2 "--optim.batch_size: expected an integer, found '1.5'" --optim.batch_size 1.5
option 2 "--data.eval_fraction: expected a number, found '5%'" --data.eval_fraction 5%
option 2 "--lora.alpha: 0 is out of range" --lora.enabled --lora.alpha 0
option 2 "--device.memory_limit: 8 bytes; of GiB it is written 8GiB" --device.memory_limit 8
option 2 "unexpected argument 'data.jsonl'; options begin with --, and a value with spaces stands in quotes: --data.train 'my ...'" --data.train my data.jsonl
option 2 "unexpected argument 'sft.yaml'; a configuration is given as --config sft.yaml" sft.yaml
option 2 "unexpected argument 'world/base'; options begin with --: did you mean --model.path world/base?" world/base
option 4 'adapter target "all" is no linear of this model' --lora.enabled --lora.targets all
option 4 '; several are separated by commas' --lora.enabled --lora.targets 'q_proj v_proj'
option 4 'the adapter has no target modules (lora.targets)' --lora.enabled --lora.targets ''
option 6 'data.template: cannot read mine.jinja: No such file or directory' --data.template mine.jinja
option 4 'chat template llama3 needs the token <|start_header_id|>, which the tokenizer lacks' --data.template llama3
option 7 'device.backend is cuda, but this build has no CUDA' --device.backend cuda
if [[ $(ldd "$bin/sft") != *libasan* ]]; then
  wrong 5 "no setting of this stage makes it fit: choose a smaller model or a machine with more memory" "${sft[@]}" "${train[@]}" --device.memory_limit 34MiB
fi

# -- configurations
file() { cat >"$1"; }
file typo.yaml <<<'optim: {lrr: 1}'
wrong 2 "typo.yaml:1: unknown key 'optim.lrr'; did you mean 'optim.lr'?" "${sft[@]}" "${train[@]}" --config typo.yaml
printf 'lora:\n  enabled: yes\n' >yes.yaml
wrong 2 "yes.yaml:2:12: 'yes' is true in YAML 1.1 and a text in YAML 1.2: write true" "${sft[@]}" "${train[@]}" --config yes.yaml
printf 'optim:\n\tlr: 1e-4\n' >tab.yaml
wrong 2 "tab.yaml:2:1: broken YAML: while scanning for the next token: found character that cannot start any token (a tab: YAML is indented by spaces)" "${sft[@]}" "${train[@]}" --config tab.yaml
printf 'optim:\n  lr: 1e-4\n  lr: 2e-4\n' >twice.yaml
wrong 2 "twice.yaml:3:3: 'lr' is given twice, first in line 2" "${sft[@]}" "${train[@]}" --config twice.yaml
printf '{"optim": {"lr": 1e-4,}}' >comma.json
wrong 2 "comma.json:1:23: broken JSON: string or '}' expected near '}' (no comma stands before a closing } or ])" "${sft[@]}" "${train[@]}" --config comma.json
printf 'optim:\n  lr:1e-4\n' >colon.yaml
wrong 2 "colon.yaml:1: 'optim': expected an object with the keys of this section, found a string (a space stands behind the colon of a key)" "${sft[@]}" "${train[@]}" --config colon.yaml
printf 'optim:\n  lr: "1e-4"\n' >quoted.yaml
wrong 2 "quoted.yaml:2: 'optim.lr': expected a number, found a string (\"1e-4\")" "${sft[@]}" "${train[@]}" --config quoted.yaml
printf 'device:\n  memory_limit: 24\n' >limit.yaml
wrong 2 "limit.yaml:2: 'device.memory_limit': 24 bytes; of GiB it is written 24GiB" "${sft[@]}" "${train[@]}" --config limit.yaml
printf 'dir: runs\nstages: []\n' >pipeline.yaml
wrong 2 "pipeline.yaml is a pipeline: drover run pipeline.yaml" "${sft[@]}" "${train[@]}" --config pipeline.yaml
printf 'model:\n  path: ${MODEL}\n' >variable.yaml
wrong 6 'there is no directory ${MODEL}; $ stands for a variable on a command line alone' "$bin/sft" "${short[@]}" "${train[@]}" --config variable.yaml
wrong 2 "--config: cannot read absent.yaml" "${sft[@]}" "${train[@]}" --config absent.yaml
wrong 2 "sft.jsonl:2:1: broken JSON: end of file expected" "${sft[@]}" "${train[@]}" --config world/sft.jsonl
printf 'base_model: world/base\nadapter: lora\n' >axolotl.yaml
wrong 2 "axolotl.yaml:1: unknown key 'base_model'; here it is 'model.path'" "${sft[@]}" "${train[@]}" --config axolotl.yaml

# -- files of data
printf 'PAR1....PAR1' >x.parquet
printf '\xfd7zXZ\0' >x.jsonl.xz
printf 'PK\3\4aaaa' >x.zip
gzip -c world/sft.jsonl | head -c 200 >torn.jsonl.gz
iconv -t UTF-16 world/sft.jsonl >utf16.jsonl
printf 'prompt,completion\na,b\n' >x.csv
: >empty.jsonl
mkdir none other && echo hello >other/readme.txt
printf '[{"prompt":"a","completion":"b"},' >torn.json
echo '["a","b"]' >list.jsonl
printf '{"prompt":"a","completion":"b"}\n{"prompt":"a","completion:"b"}\n' >torn.jsonl
echo '{"question":"a","answer":"b"}' >keys.jsonl
echo '{"prompt":"a","completion":7}' >number.jsonl
jq . world/sft.jsonl >spread.jsonl
echo "{'prompt': 'a', 'completion': 'b'}" >python.jsonl
echo '{"prompt": "a", "completion": None}' >none.jsonl
echo '{"prompt":"a","completion":"b",}' >comma.jsonl
printf '{"prompt":"caf\xe9","completion":"b"}\n' >latin.jsonl
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n' >pointer.jsonl
echo '<!DOCTYPE html>' >page.jsonl
printf 'hello world\nsecond\n' >plain.txt
{ cat world/sft.jsonl && printf '{"prompt":"a","comp'; } >cut.jsonl
echo '{"messages":[{"role":"human","content":"a"},{"role":"gpt","content":"b"}]}' >roles.jsonl
data() { wrong "$1" "$2" "${sft[@]}" --data.train "$3"; }
data 3 'x.parquet: expected JSON or lines of JSON in UTF-8; this is a Parquet file: convert it, for example by python3 -c' x.parquet
data 3 'this is compressed by xz: unxz it' x.jsonl.xz
data 3 'this is a ZIP archive: unzip it' x.zip
data 3 'torn.jsonl.gz: the gzip data end in the middle: the file was cut short' torn.jsonl.gz
data 3 'this is UTF-16: convert it by iconv -f UTF-16 -t UTF-8' utf16.jsonl
data 3 'this is a table: convert it, for example by python3 -c' x.csv
data 3 'empty.jsonl: no records: the file is empty' empty.jsonl
data 6 'data.train: none: a directory without data files (*.jsonl or *.json, also with .gz or .zst)' none
data 6 'data.train: other: a directory without data files' other
data 3 'the file ends within its list: expected ]' torn.json
data 3 'list.jsonl:1: expected an object, found a string' list.jsonl
data 3 'torn.jsonl:2:' torn.jsonl
data 3 '(a line holds a whole record: jq -c . writes them so)' spread.jsonl
data 3 "(JSON's texts stand in double quotes)" python.jsonl
data 3 "(Python's: JSON has null, true and false)" none.jsonl
data 3 '(no comma stands before a closing } or ])' comma.jsonl
data 3 '(not UTF-8: iconv -f LATIN1 -t UTF-8 makes it so)' latin.jsonl
data 3 '(only the pointer to a file of Git LFS: git lfs pull fetches it)' pointer.jsonl
data 3 '(a web page: fetch the file itself)' page.jsonl
data 3 "(of plain text, jq -c -R '{text: .}' makes records, of prompts '{prompt: .}')" plain.txt
echo '{"prompt":"a","completion":"b","completion":"c"}' >again.jsonl
data 3 'again.jsonl:1:43: broken JSON: duplicate object key' again.jsonl
data 3 '(the last line: was the file cut short?)' cut.jsonl
data 3 'what is learnt are the turns whose role is assistant, or texts' roles.jsonl
data 6 'nothing is downloaded: hf download --type dataset tatsu-lab/alpaca fetches it' https://huggingface.co/datasets/tatsu-lab/alpaca/tree/main
data 3 'keys.jsonl:1: no known format has these keys: question, answer' keys.jsonl
data 3 "number.jsonl:1: key 'completion'" number.jsonl
data 6 'data.train: there is no file world/sft.jsnl; did you mean world/sft.jsonl?' world/sft.jsnl
data 6 'there is no file https://example.org/a.jsonl; nothing is downloaded: fetch it first' https://example.org/a.jsonl
data 6 'there is no file tatsu-lab/alpaca; nothing is downloaded: hf download --type dataset tatsu-lab/alpaca fetches one of the hub' tatsu-lab/alpaca
data 6 'there is no file ~/a.jsonl; ~ stands for the home directory on a command line alone' '~/a.jsonl'
data 6 "there is no file world/*.jsonl; patterns are the shell's: give a directory" 'world/*.jsonl'
data 6 'there is no file world/sft.jsonl world/text.jsonl; several are separated by commas' 'world/sft.jsonl world/text.jsonl'
data 3 'the keys are those of preference records, which are no text data: reward and dpo learn from them' world/prefs.jsonl
data 3 'the keys are those of prompts records, which are no text data: ppo answers them' world/prompts.jsonl
wrong 3 'no usable example: of 70 records, 70 are longer than data.max_length 4 tokens and 0 have no token to learn from; raise data.max_length' "${sft[@]}" "${train[@]}" --data.max_length 4
wrong 3 "key 'messages' is missing" "${sft[@]}" "${train[@]}" --data.format messages
echo '{"prompt":"a","chosen":"yes","rejected":"yes"}' >equal.jsonl
echo '{"prompt":"a","chosen":"yes"}' >half.jsonl
echo '{"prompt":"a","accepted":"yes","refused":"no"}' >names.jsonl
for stage in reward dpo; do
  declare -n command=$stage
  wrong 3 '1 have no token to learn from; a preference is two answers that differ' "${command[@]}" --data.train equal.jsonl
  wrong 3 'the keys are those of prompt_completion records, which are no preference data: sft learns from them' "${command[@]}" "${train[@]}"
  wrong 3 'half.jsonl:1: the keys are those of prompts records, which are no preference data: ppo answers them' "${command[@]}" --data.train half.jsonl
  wrong 3 '; preferences have chosen and rejected too (data.columns can rename keys)' "${command[@]}" --data.train names.jsonl
done
echo '{"prompt":"a"}{"prompt":"b"}' >two.jsonl
wrong 3 'two.jsonl:1:' "${ppo[@]}" --reward.path world/base --data.prompts two.jsonl

# -- models, adapters, and which stage comes before which
for kind in sft reward; do
  declare -n command=$kind
  data=sft && [[ $kind == sft ]] || data=prefs
  pass "${command[@]}" --data.train world/$data.jsonl --lora.enabled --run.dir runs/$kind
done
pass "${reward[@]}" "${pairs[@]}" --run.dir runs/judge
mkdir -p wordless headless && cp world/base/{config.json,model.safetensors} wordless && cp world/base/{tokenizer,tokenizer_config}.json headless
wrong 6 'model.path: there is no directory wrld/base, and no model of that name' "${sft[@]}" "${train[@]}" --model.path wrld/base
wrong 6 'nothing is downloaded: hf download Qwen/Qwen2.5-0.5B fetches it, then that name is enough' "${sft[@]}" "${train[@]}" --model.path https://huggingface.co/Qwen/Qwen2.5-0.5B
mkdir outer && cp -r world/base outer && cp -r world/base pointer && cp pointer.jsonl pointer/tokenizer.json
cp -r world/base shortened && head -c 1000 world/base/model.safetensors >shortened/model.safetensors
wrong 2 'model.path: outer has no config.json; did you mean outer/base?' "${sft[@]}" "${train[@]}" --model.path outer
wrong 4 '(only the pointer to a file of Git LFS: git lfs pull fetches it)' "${sft[@]}" "${train[@]}" --model.path pointer
wrong 4 'shortened/model.safetensors: truncated: a header of' "${sft[@]}" "${train[@]}" --model.path shortened
wrong 2 'model.path: runs/sft/adapter is an adapter, trained over world/base, expected a model' "${sft[@]}" "${train[@]}" --model.path runs/sft/adapter
wrong 2 'model.path: runs/sft is the directory of a run' "${sft[@]}" "${train[@]}" --model.path runs/sft
wrong 2 'model.adapter: world/base is a model, expected an adapter' "${sft[@]}" "${train[@]}" --model.adapter world/base
wrong 2 'world/base/model.safetensors is one file of a model: give the directory, world/base' "${sft[@]}" "${train[@]}" --model.path world/base/model.safetensors
wrong 6 'tokenizer.json' "${sft[@]}" "${train[@]}" --model.path wordless
wrong 6 'config.json' "${sft[@]}" "${train[@]}" --model.path headless
wrong 4 'adapter target "q_prj" is no linear of this model (there are: q_proj,' "${sft[@]}" "${train[@]}" --lora.enabled --lora.targets q_prj
wrong 4 'world/base: tensor score.weight is missing: not a reward model; drover reward makes one' "${ppo[@]}" --reward.path world/base
wrong 4 "runs/sft/adapter: a language model's adapter (CAUSAL_LM) without a score head" "${ppo[@]}" --reward.path world/base --reward.adapter runs/sft/adapter
wrong 4 "runs/reward/adapter: a reward model's adapter (SEQ_CLS), and the actor needs a language model's" \
  "${ppo[@]}" --reward.path world/base --reward.adapter runs/reward/adapter --model.adapter runs/reward/adapter
wrong 4 "runs/reward/adapter: a reward model's adapter (SEQ_CLS), and the policy needs a language model's" "${sft[@]}" "${train[@]}" --lora.enabled --model.adapter runs/reward/adapter
wrong 4 'runs/judge/model: a reward model (LlamaForSequenceClassification) has no LM head and only scores' "${sft[@]}" "${train[@]}" --model.path runs/judge/model
wrong 4 'runs/judge/model: a reward model (LlamaForSequenceClassification) has no LM head and only scores' "${dpo[@]}" "${pairs[@]}" --model.path runs/judge/model
wrong 2 "'reward.path'" "${ppo[@]}"
wrong 3 'which are no prompt data' "${ppo[@]}" --reward.path world/base --reward.adapter runs/reward/adapter --data.prompts world/text.jsonl
make_short world brief 20
pass "$bin/reward" "${short[@]}" --model.path brief "${pairs[@]}" --data.max_length 20 --data.truncation truncate --run.dir runs/brief
wrong 2 'the longest sequence has 32 tokens, and runs/brief/model has positions for 20: lower data.max_length, and of ppo rollout.max_new_tokens' \
  "${ppo[@]}" --reward.path runs/brief/model
pass "$bin/init" --config world/model.json --tokenizer world/tokenizer --out stranger --seed 9
wrong 4 'runs/sft/adapter: this adapter was trained over other weights than those in stranger' "${sft[@]}" "${train[@]}" --lora.enabled --model.path stranger --model.adapter runs/sft/adapter
# A directory that is another's: it stays as it is, but for the cache of data, and what a run writes into its log.
kept() { (cd "$1" && find . ! -path './cache*' ! -name lock ! -name 'run.db*' -type f -exec sha256sum {} + | sort); }
stays() { # DIRECTORY CODE TEXT COMMAND...
  local before
  before=$(kept "$1")
  refuse "${@:2}" --run.dir "$1" --check
  refuse "${@:2}" --run.dir "$1"
  [[ $(kept "$1") == "$before" ]] || fail "$1 was changed by ${*:4}"
  rows=$((rows + 1))
}
stays world/base 2 'run.dir world/base is no run' "${sft[@]}" "${train[@]}"
stays runs/sft 2 'runs/sft/done.json was made with another configuration' "${reward[@]}" "${pairs[@]}"
stays runs/sft 2 'lora.r (was 8, is 4)' "${sft[@]}" "${train[@]}" --lora.enabled --lora.r 4
cp -r runs/sft runs/stopped && rm runs/stopped/done.json
stays runs/stopped 2 'is of the stage' "${reward[@]}" "${pairs[@]}"
stays runs/stopped 2 'lora.r (was 8, is 4)' "${sft[@]}" "${train[@]}" --lora.enabled --lora.r 4
stays runs/judge 2 'lies in runs/judge/model, which this run writes: choose another run.dir' "${sft[@]}" "${train[@]}" --model.path runs/judge/model
note "$rows mistakes, by the program and by its --check"

# -- the other programs
said() { refuse "$@" && rows=$((rows + 1)); }
said 4 'a reward model scores (drover inspect score)' "$bin/generate" --model runs/judge/model --prompt x
said 4 "a reward model's adapter (SEQ_CLS): it scores and does not write" "$bin/generate" --model world/base --adapter runs/reward/adapter --prompt x
said 2 'give one of --prompt, --prompts and --ids' "$bin/generate" --model world/base
said 4 'no intact checkpoint in world/base/checkpoints: expected the directory of a run (run.dir)' "$bin/export" world/base
said 2 'runs/sft is the directory of a run, expected an adapter: give its result runs/sft/adapter' "$bin/merge" --model world/base --adapter runs/sft --out m
said 2 'runs/judge is the directory of a run, expected an adapter: it trained all weights, runs/judge/model' "$bin/merge" --model world/base --adapter runs/judge --out m
said 2 '--out world/base: expected a new directory' "$bin/merge" --model stranger --adapter runs/sft/adapter --out world/base
said 6 'cannot create directory' "${sft[@]}" "${train[@]}" --run.dir world/sft.jsonl
said 2 "unexpected argument 'world/base'; options begin with --: did you mean --model world/base?" "$bin/generate" world/base
echo '{"optim": {}, "data": {}}' >stage.json
said 2 "unknown key 'optim'; known are about, dir, stages; it is a configuration of one stage: drover sft --config FILE" "$drover" run stage.json
said 2 "unknown command 'chat'; it is 'drover generate'" "$drover" chat
said 2 "unknown command 'grpo'; it is 'drover ppo --ppo.advantage grpo'" "$drover" grpo
said 2 "unknown command 'sft.yaml'; a configuration is given to its command: drover sft --config sft.yaml" "$drover" sft.yaml
# --check of whatever would write: it says that it found nothing, and writes nothing
printf 'base_model: world/base\nadapter: lora\ndatasets:\n  - path: world/sft.jsonl\n    type: alpaca\n' >theirs.yaml
checked() {
  expect 'the check found nothing wrong' "$@" --check
  [[ ! -e unwritten ]] || fail "$* --check wrote something"
  rows=$((rows + 1))
}
checked "$drover" new sft --model world/base --data world/sft.jsonl --out unwritten
checked "$drover" convert theirs.yaml --out unwritten
checked "$drover" merge --model world/base --adapter runs/sft/adapter --out unwritten
checked "$drover" init --config world/model.json --tokenizer world/tokenizer --out unwritten
checked "$drover" tokenizer add world/base --out unwritten --token more
checked "$drover" export runs/sft --out unwritten
checked "$drover" data --data world/sft.jsonl --out unwritten
checked "$drover" generate --model world/base --prompt x
note "and of the other programs"
echo "mistakes: $rows rows"
