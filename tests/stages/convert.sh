#!/usr/bin/env bash
# drover convert: configurations of axolotl, LLaMA-Factory and TRL as ours, which then are checked and run; and every key that cannot be.
# $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
value() { "$bin/config" "$1" | jq -cS "$2"; }
# good NAME STAGE [OPTIONS...]: NAME.yaml is taken over whole to NAME.out.yaml, checked, and run for two updates.
good() {
  local name=$1 stage=$2
  shift 2
  pass "$drover" convert "$name.yaml" --out "$name.out.yaml" "$@"
  [[ $(cat out) == "$name.out.yaml" && ! -s log ]] || fail "$name: $(cat out log)"
  pass "$drover" "$stage" --config "$name.out.yaml" --check
  pass "$drover" "$stage" --config "$name.out.yaml" --optim.max_steps 2
}
# holds_values FILE FILTER EXPECTED
same() { [[ $(value "$1" "$2") == "$3" ]] || fail "$1: $2 is $(value "$1" "$2"), expected $3: $(cat "$1")"; }

# -- axolotl
cat >adapter.yaml <<'END'
base_model: world/base
model_type: LlamaForCausalLM
load_in_8bit: true
datasets:
  - path: world/sft.jsonl
    type: chat_template
    split: train
    field_messages: messages
    roles: {user: [human, user], assistant: [gpt, assistant]}
val_set_size: 0.1
chat_template: qwen_25
eot_tokens: ["<|im_end|>"]
plugins:
  - axolotl.integrations.liger.LigerPlugin
  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin
liger_rms_norm: true
cut_cross_entropy: true
sequence_len: 64
sample_packing: false
adapter: lora
lora_r: 4
lora_alpha: 8
lora_dropout: 0.1
lora_target_linear: true
lora_modules_to_save:
wandb_project: doors
wandb_mode: offline
swanlab_experiment_name: doors
fsdp_version: 2
loss_watchdog_threshold: 5.0
gradient_accumulation_steps: 2
micro_batch_size: 3
num_epochs: 2
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 5e-4
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 2
saves_per_epoch: 1
weight_decay: 0.01
output_dir: runs/adapter
END
good adapter sft
same adapter.out.yaml '[.model.path, .model.dtype, .model.quantize, .model.recompute, .lora]' '["world/base","auto","int8",true,{"alpha":8,"dropout":0.1,"enabled":true,"r":4,"targets":"all-linear"}]'
same adapter.out.yaml .optim '{"batch_size":6,"clip":1,"epochs":2,"eps":1e-08,"lr":0.0005,"name":"adamw","schedule":"cosine","state":"8bit","warmup_ratio":0.1,"weight_decay":0.01}'
same adapter.out.yaml '[.data, .run]' '[{"eval_fraction":0.1,"max_length":64,"template":"auto","train":"world/sft.jsonl"},{"dir":"runs/adapter","log_every":1,"seed":42}]'
grep -q 'micro_batch_size 3 x gradient_accumulation_steps 2 x devices 1' adapter.out.yaml || fail "no word of the arithmetic: $(cat adapter.out.yaml)"
for key in flash_attention plugins wandb_project wandb_mode swanlab_experiment_name fsdp_version eot_tokens cut_cross_entropy loss_watchdog_threshold; do
  grep -q "#   $key: " adapter.out.yaml || fail "no word of $key, which is set aside: $(cat adapter.out.yaml)"
done
grep -q "template: auto .*# qwen_25 there; here the model's own" adapter.out.yaml || fail "no word of the template: $(cat adapter.out.yaml)"

cat >alpaca.yaml <<'END'
base_model: world/base
base_model_config: world/base
datasets:
  - path: ./quest
    data_files: [alpaca.jsonl]
    ds_type: json
    type: alpaca
test_datasets:
  - {path: alpaca.jsonl, type: alpaca, split: train}
sequence_len: 100
micro_batch_size: 2
batch_size: 8
num_epochs: 1
learning_rate: "1e-3"
lr_scheduler: constant
warmup_steps: 10
optimizer: adamw_torch
train_on_inputs: true
max_grad_norm: 0.5
adam_beta2: 0.95
seed: 7
special_tokens:
  pad_token: "<|endoftext|>"
output_dir: runs/alpaca
END
head -n 40 world/sft.jsonl | jq -c '{instruction: .prompt, input: "", output: .completion}' >alpaca.jsonl
sed -i '/base_model_config/d' alpaca.yaml
pass "$drover" convert alpaca.yaml --out alpaca.out.yaml
pass "$drover" sft --config alpaca.out.yaml --data.template chatml --optim.max_steps 2 # Alpaca's own frame is longer than this model
same alpaca.out.yaml '[.data.format, .data.template, .data.train, .data.eval, .data.train_on_inputs]' '["alpaca","alpaca","alpaca.jsonl","alpaca.jsonl",true]'
same alpaca.out.yaml '[.optim.batch_size, .optim.schedule, .optim.warmup_steps, .optim.clip, .optim.beta2, .optim.lr, .run.seed, .lora]' '[8,"constant",0,0.5,0.95,0.001,7,null]'

cat >pairs.yaml <<'END'
base_model: world/base
optimizer: adamw_torch_8bit
rl: simpo
rl_beta: 2.5
simpo_gamma: 0.3
datasets:
  - path: world/prefs.jsonl
    type: chat_template.default
    field_chosen: chosen
    field_rejected: rejected
adapter: qlora
load_in_4bit: true
load_in_8bit: false
lora_r: 8
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
sequence_len: 64
micro_batch_size: 4
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 0.0005
save_steps: 0.5
output_dir: runs/pairs
END
pass "$drover" convert pairs.yaml --out pairs.out.yaml
same pairs.out.yaml '[.dpo, .model.quantize, .lora.targets, .optim.warmup_ratio, .optim.state]' '[{"beta":2.5,"gamma":0.3,"loss":"simpo"},"nf4",["q_proj","v_proj"],0.03,"8bit"]'
grep -q 'save_steps: a share of the run' pairs.out.yaml || fail "no word of save_steps"
pass "$drover" dpo --config pairs.out.yaml --model.quantize none --optim.max_steps 2 # 4 bits want larger matrices than these
sed '/^rl/d; /^simpo/d; s/type: chat_template.default/type: bradley_terry.chat_template/; s,runs/pairs,runs/bt,' pairs.yaml >bt.yaml
printf 'reward_model: true\nnum_labels: 1\n' >>bt.yaml
pass "$drover" convert bt.yaml --out bt.out.yaml
pass "$drover" reward --config bt.out.yaml --model.quantize none --optim.max_steps 2
note "axolotl"

# -- LLaMA-Factory
mkdir data
cp alpaca.jsonl data/quest.jsonl
jq -c '{conversations: [{from: "human", value: .prompt}], chosen: {from: "gpt", value: .chosen}, rejected: {from: "gpt", value: .rejected}}' world/prefs.jsonl >data/pairs.jsonl
head -n 30 world/sft.jsonl | jq -c '{ask: .prompt, answer: .completion}' >data/own.jsonl
cat >data/dataset_info.json <<'END'
{"quest": {"file_name": "quest.jsonl"}, "own": {"file_name": "own.jsonl", "columns": {"prompt": "ask", "response": "answer"}},
 "far": {"hf_hub_url": "somebody/far"}, "odd": {"file_name": "own.jsonl", "formatting": "sharegpt", "tags": {"role_tag": "who"}}}
END
cat >factory.yaml <<'END'
### model
model_name_or_path: world/base
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: q_proj, v_proj
### dataset
dataset: own
template: chatml
cutoff_len: 90
max_samples:
overwrite_cache: true
preprocessing_num_workers: 16
### output
output_dir: runs/factory
logging_steps: 10
save_steps: 500
plot_loss: true
report_to: none
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: false
ddp_timeout: 180000000
val_size: 0.1
eval_strategy: steps
eval_steps: 500
END
good factory sft
same factory.out.yaml '[.lora, .data]' '[{"alpha":8,"dropout":0,"enabled":true,"r":4,"targets":["q_proj","v_proj"]},{"columns":{"instruction":"ask","output":"answer"},"eval_fraction":0.1,"format":"alpaca","max_length":90,"template":"chatml","train":"data/own.jsonl","truncation":"truncate"}]'
grep -q 'alpha: 8.0 .*twice the rank' factory.out.yaml || fail "no word of a default: $(cat factory.out.yaml)"
cat >judge.yaml <<'END'
model_name_or_path: world/base
stage: rm
finetuning_type: full
dataset: world/prefs.jsonl
template: llama3x
cutoff_len: 64
output_dir: runs/judge
per_device_train_batch_size: 4
disable_gradient_checkpointing: true
lr_scheduler_type: constant_with_warmup
warmup_steps: 0.1
learning_rate: 1.0e-5
num_train_epochs: 1
END
good judge reward
same judge.out.yaml '[.lora.enabled, .optim.batch_size, .optim.warmup_ratio, .optim.schedule, .optim.eps, .model.recompute, .data.template]' '[false,4,0.1,"constant",1e-08,false,"auto"]'
grep -q "llama3x there; here the model's own" judge.out.yaml || fail "no word of the template: $(cat judge.out.yaml)"
cat >prefer.yaml <<'END'
model_name_or_path: world/base
stage: dpo
finetuning_type: lora
lora_target: all
pref_beta: 0.2
pref_loss: orpo
dataset: world/prefs.jsonl,world/prefs_eval.jsonl
template: chatml
cutoff_len: 64
output_dir: runs/prefer
per_device_train_batch_size: 4
learning_rate: 5.0e-6
num_train_epochs: 1
END
good prefer dpo
same prefer.out.yaml '[.dpo, .data.train, .lora.targets, .lora.alpha]' '[{"beta":0.2,"loss":"orpo"},["world/prefs.jsonl","world/prefs_eval.jsonl"],"all-linear",16]'
sed 's/stage: dpo/stage: kto/; s/pref_loss: orpo/kto_chosen_weight: 1.5/; s,runs/prefer,runs/kto,' prefer.yaml >kto.yaml
good kto dpo
same kto.out.yaml '.dpo' '{"beta":0.2,"desirable_weight":1.5,"loss":"kto"}'
note "LLaMA-Factory"

# -- TRL
cat >trl.yaml <<'END'
model_name_or_path: world/base
dataset_name: talks.jsonl
learning_rate: 3.0e-4
num_train_epochs: 2
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
gradient_checkpointing: true
max_length: 64
use_peft: true
lora_r: 8
lora_target_modules: all-linear
logging_steps: 5
report_to: [none]
output_dir: runs/trl
END
jq -c '{messages: [{role: "user", content: .prompt}, {role: "assistant", content: .completion}]}' world/sft.jsonl >talks.jsonl
refuse 2 "does not say for which trainer it is, as \`trl sft\` does: give --stage sft, reward or dpo" "$drover" convert trl.yaml
good trl sft --stage sft
same trl.out.yaml '[.lora.alpha, .optim.schedule, .optim.batch_size, .data.train_on_inputs, .data.truncation]' '[32,"linear",4,true,"truncate"]'
expect 'train_on_inputs: true' "$drover" convert trl.yaml --stage sft
sed 's/^max_length.*/assistant_only_loss: true/; s/talks/world\/sft/' trl.yaml >trl2.yaml
pass "$drover" convert trl2.yaml --stage sft --out trl2.out.yaml
same trl2.out.yaml '[.data.train_on_inputs, .data.max_length]' '[null,1024]'
note "TRL"

# -- what a file leaves out is its trainer's default
left_out() { # STAGE LINES EXPECTED: of optim.lr, schedule, epochs, batch_size, warmup_ratio, data.max_length, truncation, lora.r, alpha, dropout, targets, seed
  printf '%b\n' "$2" >bare.yaml
  pass "$drover" convert bare.yaml --stage "$1" --data world/sft.jsonl --out bare.out.yaml
  same bare.out.yaml '[.optim.lr, .optim.schedule, .optim.epochs, .optim.batch_size, .optim.warmup_ratio, .data.max_length, .data.truncation, .lora.r, .lora.alpha, .lora.dropout, .lora.targets, .run.seed]' "$3"
  rm bare.out.yaml
}
left_out sft 'model_name_or_path: m\nuse_peft: true\noutput_dir: o' '[2e-05,"linear",3,8,null,1024,"truncate",16,32,0.05,["q_proj","v_proj"],42]'
left_out reward 'model_name_or_path: m\noutput_dir: o' '[0.0001,"linear",3,8,null,1024,"truncate",null,null,null,null,42]'
left_out dpo 'model_name_or_path: m\noutput_dir: o' '[1e-06,"linear",3,8,null,1024,"truncate",null,null,null,null,42]'
left_out sft 'model_name_or_path: m\nlora_rank: 16\noutput_dir: o' '[5e-05,"linear",3,8,null,2048,"truncate",16,32,0,"all-linear",42]'
left_out sft 'base_model: m\nlearning_rate: 1e-4\noutput_dir: o' '[0.0001,"cosine",1,1,0.03,512,null,null,null,null,null,42]'
note "defaults of others"

# -- what cannot be taken over: named with its line; exit code 2 and no file, but with --force
bad() { # LINES OF THE FILE, WHAT IS SAID
  { cat "$1.yaml"; printf '%b\n' "$2"; } >bad.yaml
  refuse 2 "bad.yaml:$(wc -l <bad.yaml): '$3" "$drover" convert bad.yaml --out bad.out.yaml
  [[ ! -e bad.out.yaml ]] || fail "$2: a file was written"
  cases=$((cases + 1))
}
cases=0
bad adapter 'neftune_noise_alpha: 5' "neftune_noise_alpha': it has no equal here: embeddings have no noise"
bad adapter 'early_stopping_patience: 3' "early_stopping_patience': run.patience: in evaluations"
bad adapter 'peft_use_dora: true' "peft_use_dora': it has no equal here"
bad adapter 'unfrozen_parameters: [a]' "unfrozen_parameters': it has no equal here: all weights are trained, or an adapter"
bad adapter 'tokens: ["<a>"]' "tokens': drover tokenizer add gives"
bad adapter 'some_new_thing: 1' "some_new_thing': not known here, or not for sft"
bad adapter 'rl_beta: 0.1' "rl_beta': not known here, or not for sft"
bad factory 'loraplus_lr_ratio: 16' "loraplus_lr_ratio': it has no equal here"
bad factory 'mask_history: true' "mask_history': it has no equal here"
bad factory 'neat_packing: true' "neat_packing': a batch counts rows that are full of examples there"
bad factory 'packing: true' "packing': examples in a row see each other there"
bad factory 'optim: muon' "optim': 'muon' has no equal here: there are adamw, lion and sgd"
bad factory 'fp16: true' "fp16': it has no equal here"
bad factory 'load_best_model_at_end: true' "load_best_model_at_end': run.keep_best: the name of a figure"
change() { # FILE SED TEXT [OPTIONS]: refused with the text somewhere
  sed "$2" "$1.yaml" >bad.yaml
  refuse 2 "$3" "$drover" convert bad.yaml "${@:4}"
  cases=$((cases + 1))
}
change adapter 's/sample_packing: false/sample_packing: true/' "'sample_packing': a batch counts rows"
change adapter 's/lr_scheduler: cosine/lr_scheduler: rex/' "'lr_scheduler': 'rex' has no equal here"
change adapter 's/val_set_size: 0.1/val_set_size: 200/' "'val_set_size': a number of examples"
change adapter 's#path: world/sft.jsonl#path: somebody/data#' "hf download --type dataset somebody/data; then give its files as --data"
change adapter 's/type: chat_template/type: pygmalion/' "'datasets[0]': type 'pygmalion' has no equal here"
change adapter 's/split: train/roles_to_train: [user]/' "bad.yaml:7: 'datasets[0].roles_to_train': it has no equal here"
change adapter 's/chat_template: qwen_25/chat_template: aya/' "'chat_template': 'aya' has no equal here"
change adapter 's/liger.LigerPlugin/spectrum.SpectrumPlugin/' "'plugins': 'axolotl.integrations.spectrum.SpectrumPlugin' has no equal here"
change adapter 's/assistant: .gpt/assistant: [narrator/' "'datasets[0].roles': it has no equal here"
change adapter 's/adapter: lora/adapter: llama-adapter/' "'adapter': 'llama-adapter' has no equal here"
change factory 's/dataset: own/dataset: far/' "'far' is not in a file by dataset_info.json"
change factory 's/dataset: own/dataset: gone/' "'gone' is in no dataset_info.json here: give its file as --data"
change factory 's/dataset: own/dataset: odd/' "the tags of 'odd' in dataset_info.json have no equal here"
change factory 's/finetuning_type: lora/finetuning_type: freeze/' "'finetuning_type': 'freeze' has no equal here"
change factory 's/stage: sft/stage: bco/' "'stage': 'bco' has no equal here: expected pt, sft, rm, dpo, ppo or kto"
change factory 's/template: chatml/template: empty/' "'template': 'empty' has no equal here"
change pairs 's/rl: simpo/rl: grpo/' "'rl': 'grpo' has no equal here: expected dpo, ipo, orpo, simpo or kto"
change factory 's/lora_rank: 4/lora_rank: 0/' "'lora.r': 0 is out of range" # the stage has the last word
change factory 's/report_to: none/report_to: no/' "bad.yaml:22:12: 'no' is false in YAML 1.1"
refuse 2 "has neither base_model nor model_name_or_path" "$drover" convert factory.out.yaml
refuse 2 "--out: trl.yaml exists" "$drover" convert adapter.yaml --out trl.yaml
sed 's#path: world/sft.jsonl#path: somebody/data#' adapter.yaml >bad.yaml
pass "$drover" convert bad.yaml --data world/sft.jsonl --out given.yaml
same given.yaml .data.train '"world/sft.jsonl"'
sed 's/max_samples:/max_samples: 1000/' factory.yaml >bad.yaml
refuse 2 "'max_samples': it has no equal here: the file's first lines: head -n" "$drover" convert bad.yaml
pass "$drover" convert bad.yaml --data world/sft.jsonl --out samples.yaml
grep -q '#   max_samples: the files of --data are read whole' samples.yaml || fail "no word of max_samples: $(cat samples.yaml)"
sed 's/sample_packing: false/sample_packing: true/' adapter.yaml >bad.yaml
pass "$drover" convert bad.yaml --batch-size 40 --devices 4 --out rows.yaml
same rows.yaml .optim.batch_size 40
pass "$drover" convert adapter.yaml --devices 4 --out four.yaml
same four.yaml .optim.batch_size 24
{ cat adapter.yaml && echo 'neftune_noise_alpha: 5'; } >bad.yaml
pass "$drover" convert bad.yaml --force --out forced.yaml
grep -q "What is not taken over, and changes what is learnt:" forced.yaml || fail "--force says nothing in the file"
grep -q "warning: bad.yaml:[0-9]*: 'neftune_noise_alpha'" log || fail "--force says nothing: $(cat log)"
pass "$drover" sft --config forced.yaml --check
note "$cases keys and values that cannot be taken over"
echo "convert: all as expected"
