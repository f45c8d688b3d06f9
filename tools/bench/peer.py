#!/usr/bin/env python3
"""One peer of `drover bench`, in a process of its own: it loads once, and measures whenever it is asked.

Requests come as lines of JSON on standard input, replies go as such on standard output:

    {"do": "look", "peers": [...]}                          {NAME: {"version": ...} or {"lacks": ...}, ...}
    {"do": "load", "peer": NAME, "kind": ..., ...}         {"ready": true} or {"failed": ...}
    {"do": "measure"}                                      {"rate": TOKENS PER SECOND} or {"failed": ...}

What is loaded is warm when it says so: the first call of everything is not measured. Token ids are random, for nothing but
lengths matters. Python is for measuring alone; no part of Drover needs it.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import random
import statistics
import sys
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
PACKAGES = {"torch": ["torch", "transformers"], "transformers": ["transformers", "torch"],
            "peft": ["peft", "torch", "transformers"], "trl": ["trl", "torch", "transformers", "peft", "datasets"],
            "llama.cpp": ["llama_cpp", "gguf", "numpy", "safetensors", "torch"]}


def look(request):
    """Which peers there are; importing them takes too long for a look."""
    found = {}
    for name in request["peers"]:
        own, *others = PACKAGES[name]
        missing = [p for p in others if importlib.util.find_spec(p) is None]
        if importlib.util.find_spec(own) is None:
            found[name] = {"lacks": "import"}
        elif missing:
            found[name] = {"lacks": f"needs {', '.join(missing)}"}
        else:
            found[name] = {"version": importlib.metadata.version("llama_cpp_python" if name == "llama.cpp" else own)}
    return found


def random_ids(vocabulary, count, seed=1):
    source = random.Random(seed)
    return [source.randrange(min(5, vocabulary - 1), vocabulary) for _ in range(count)]


# ---- PyTorch --------------------------------------------------------------------------------------------------


def torch_model(r, kind=None):
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(r["threads"])
    more = {"num_labels": 1} if kind == "scores" else {}
    cls = transformers.AutoModelForSequenceClassification if kind == "scores" else transformers.AutoModelForCausalLM
    model = cls.from_pretrained(r["model"], dtype=torch.float32, attn_implementation="sdpa", **more)
    model.config.pad_token_id = model.config.eos_token_id if model.config.pad_token_id is None else model.config.pad_token_id
    return model


def lora(task):
    from peft import LoraConfig
    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type=task)


def training(r):
    """A plain loop: what every trainer over PyTorch does at least. AdamW is the fused one."""
    import torch
    model = torch_model(r)
    if r["lora"]:
        from peft import get_peft_model
        model = get_peft_model(model, lora("CAUSAL_LM"))
    model.train()
    model.config.use_cache = False
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-6, weight_decay=0.0, fused=True)
    ids = random_ids(model.config.vocab_size, r["batch"] * r["length"])
    x = torch.tensor(ids).view(r["batch"], r["length"])

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=r["weights"] == "bf16"):
            loss = model(input_ids=x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    return lambda: median_rate(step, r["times"], r["batch"] * r["length"])


def median_rate(step, times, tokens):
    rates = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        rates.append(tokens / (time.perf_counter() - started))
    return statistics.median(rates)


def generation(r):
    import torch
    model = torch_model(r).eval()
    ids = random_ids(model.config.vocab_size, r["batch"] * r["length"])
    x = torch.tensor(ids).view(r["batch"], r["length"])

    def answers(new):
        started = time.perf_counter()
        with torch.no_grad():
            out = model.generate(x, attention_mask=torch.ones_like(x), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                 max_new_tokens=new, min_new_tokens=new)
        assert out.shape[1] == r["length"] + new
        return r["batch"] * new / (time.perf_counter() - started)

    answers(4)
    return lambda: answers(r["answer"])


def dataset(rows):
    from datasets import Dataset
    return Dataset.from_list(rows)


def tokenizer_of(r):
    import transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained(r["model"])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def trainer_arguments(r):
    """What both trainers of TRL are told, so that they compute and nothing else."""
    return dict(output_dir=str(pathlib.Path(r["scratch"]) / "trl"), per_device_train_batch_size=r["batch"], learning_rate=1e-6,
                gradient_accumulation_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, bf16=False,
                use_cpu=True, gradient_checkpointing=False, logging_strategy="no", dataloader_pin_memory=False)


def timed_training(trainer, tokens):
    """Measures by having the trainer train again: the median of its updates, each of so many tokens."""
    import transformers

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, **more):
            self.times = [time.perf_counter()]

        def on_step_end(self, args, state, control, **more):
            self.times.append(time.perf_counter())

    clock = Clock()
    trainer.add_callback(clock)

    def measure():
        trainer.train()
        return statistics.median(tokens / (b - a) for a, b in zip(clock.times[:-1], clock.times[1:], strict=True))

    measure()
    return measure


def reward(r):
    from trl import RewardConfig, RewardTrainer
    tokenizer, model = tokenizer_of(r), torch_model(r, "scores")
    ids = random_ids(model.config.vocab_size, 2 * r["batch"] * r["length"])
    text = lambda i: ids[i * r["length"]:(i + 1) * r["length"]]
    rows = [{"chosen_ids": text(2 * i), "rejected_ids": text(2 * i + 1)} for i in range(r["batch"])]
    arguments = RewardConfig(**trainer_arguments(r), max_steps=r["times"], max_length=r["length"], optim="adamw_torch_fused")
    trainer = RewardTrainer(model=model, args=arguments, processing_class=tokenizer, train_dataset=dataset(rows * r["times"]),
                            peft_config=lora("SEQ_CLS") if r["lora"] else None)
    return timed_training(trainer, 2 * r["batch"] * r["length"])


def ppo(r):
    from trl.experimental.ppo import PPOConfig, PPOTrainer
    tokenizer = tokenizer_of(r)
    policy, reference = torch_model(r), torch_model(r)
    value, judge = torch_model(r, "scores"), torch_model(r, "scores")
    ids = random_ids(policy.config.vocab_size, r["batch"] * r["length"])
    rows = [{"input_ids": ids[i * r["length"]:(i + 1) * r["length"]]} for i in range(r["batch"])]
    config = PPOConfig(**trainer_arguments(r), total_episodes=r["batch"] * r["times"], response_length=r["answer"], num_ppo_epochs=1,
                       num_mini_batches=1, local_rollout_forward_batch_size=r["batch"], num_sample_generations=0,
                       temperature=0.7, missing_eos_penalty=None, optim="adamw_torch_fused")
    trainer = PPOTrainer(args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=judge,
                         value_model=value, train_dataset=dataset(rows * r["times"]))
    return timed_training(trainer, r["batch"] * r["answer"])


# ---- llama.cpp ------------------------------------------------------------------------------------------------

FORMATS = {"f32": "LLAMA_FTYPE_ALL_F32", "bf16": "LLAMA_FTYPE_MOSTLY_BF16", "int8": "LLAMA_FTYPE_MOSTLY_Q8_0",
           "nf4": "LLAMA_FTYPE_MOSTLY_Q4_0"}


def gguf_of(r):
    """The model as a GGUF file in F32, made once in scratch: Llama alone, and no vocabulary, which nothing here needs."""
    import gguf
    import numpy as np
    from safetensors import safe_open
    path = pathlib.Path(r["scratch"]) / "model.gguf"
    if path.exists():
        return path
    c = json.loads((pathlib.Path(r["model"]) / "config.json").read_text())
    if c["model_type"] != "llama" or c.get("rope_scaling"):
        raise ValueError(f"model_type {c['model_type']}: only Llama without scaled rotations is turned into GGUF here")
    heads, layers = c["num_attention_heads"], c["num_hidden_layers"]
    kv_heads = c.get("num_key_value_heads", heads)
    writer = gguf.GGUFWriter(str(path) + ".part", "llama")
    writer.add_block_count(layers)
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_freq_base(c.get("rope_theta") or c.get("rope_parameters", {}).get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(c["hidden_size"] // heads)
    writer.add_vocab_size(c["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    for file in sorted(pathlib.Path(r["model"]).glob("*.safetensors")):
        with safe_open(file, framework="np" if not needs_torch(file) else "pt") as tensors:
            for name in tensors.keys():
                value = tensors.get_tensor(name)
                value = np.asarray(value.float().numpy() if hasattr(value, "float") else value, dtype=np.float32)
                if name.endswith(("q_proj.weight", "k_proj.weight")):  # halves of a head become pairs
                    n = heads if "q_proj" in name else kv_heads
                    value = value.reshape(n, 2, value.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(value.shape)
                writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(str(path) + ".part", path)
    return path


def needs_torch(file):
    """NumPy has no bfloat16."""
    with open(file, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return any(t.get("dtype") == "BF16" for t in header.values())


class Llama:
    """llama.cpp through its C interface, with room for `length` tokens of each sequence. Its cache is F16, its default."""

    def __init__(self, r, length, trained=False):
        import ctypes
        import llama_cpp as l
        import numpy
        self.l, self.numpy = l, numpy
        self.silent = l.llama_log_callback(lambda *_: None)
        l.llama_log_set(self.silent, None)
        l.llama_backend_init()
        path = gguf_of(r)
        if r["weights"] != "f32":
            target = path.with_suffix("." + r["weights"])
            how = l.llama_model_quantize_default_params()
            how.ftype, how.nthread = getattr(l, FORMATS[r["weights"]]), r["threads"]
            if not target.exists() and l.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(how)):
                raise ValueError(f"llama.cpp does not quantise to {FORMATS[r['weights']]}")
            path = target
        how = l.llama_model_default_params()
        if trained:  # weights that can be written
            how.load_mode = l.LLAMA_LOAD_MODE_NONE
        self.model = l.llama_model_load_from_file(str(path).encode(), how)
        if not self.model:
            raise ValueError("llama.cpp does not load the model")
        p = l.llama_context_default_params()
        most = r["batch"] * r["length"]
        p.n_ctx, p.n_seq_max = r["batch"] * (length + 32), r["batch"]
        p.n_batch = p.n_ubatch = max(most, 32)
        p.n_threads = p.n_threads_batch = r["threads"]
        p.kv_unified = True
        if trained:  # as llama-finetune has it: one text at a time, whole, or keys and values get no gradients
            p.n_ctx, p.n_seq_max = r["length"], 1
            p.n_batch = p.n_ubatch = r["length"]
            p.type_k = p.type_v = 0  # GGML_TYPE_F32
            p.flash_attn_type = 0
        self.context = l.llama_init_from_model(self.model, p)
        if not self.context:
            raise ValueError("llama.cpp makes no context")
        self.vocabulary = l.llama_vocab_n_tokens(l.llama_model_get_vocab(self.model))
        self.tokens = l.llama_batch_init(max(most, 32), 0, 1)
        self.r, self.ids = r, random_ids(self.vocabulary, most)

    def decode(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted)"""
        b = self.tokens
        b.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            b.token[i], b.pos[i], b.logits[i] = token, position, logits
            b.n_seq_id[i], b.seq_id[i][0] = 1, sequence
        if self.l.llama_decode(self.context, b):
            raise ValueError("llama_decode failed")

    def clear(self):
        self.l.llama_memory_clear(self.l.llama_get_memory(self.context), True)

    def prompts(self):
        length = self.r["length"]
        self.decode([(self.ids[s * length + i], i, s, i == length - 1) for s in range(self.r["batch"]) for i in range(length)])

    def greedy(self, i):
        logits = self.numpy.ctypeslib.as_array(self.l.llama_get_logits_ith(self.context, i), (self.vocabulary,))
        return int(logits.argmax())

    def step(self, last, position):
        self.decode([(token, position, s, 1) for s, token in enumerate(last)])


def llama_decode(r):
    llama = Llama(r, r["length"] + r["answer"])

    def measure(new=r["answer"]):
        llama.clear()
        llama.prompts()
        last = [5] * r["batch"]
        llama.step(last, r["length"])
        started = time.perf_counter()
        for i in range(1, new + 1):
            llama.step(last, r["length"] + i)
            last = [llama.greedy(s) for s in range(r["batch"])]
        return r["batch"] * new / (time.perf_counter() - started)

    measure(4)
    return measure


def llama_prefill(r):
    llama = Llama(r, r["length"])

    def measure(times=r["times"]):
        started = time.perf_counter()
        for _ in range(times):
            llama.clear()
            llama.prompts()
            llama.l.llama_synchronize(llama.context)
        return times * r["batch"] * r["length"] / (time.perf_counter() - started)

    measure(1)
    return measure


def llama_training(r):
    """The loop of llama-finetune: an update after each text, of all weights but the table of embeddings, which it leaves as it is."""
    import ctypes
    llama = Llama(r, r["length"], trained=True)
    lib, texts = llama.l.llama_cpp._lib, 2
    size = llama.l.llama_n_ctx(llama.context)  # the length, or what llama.cpp rounds it to

    class Options(ctypes.Structure):  # that of llama_cpp lacks the last
        _fields_ = [*llama.l.llama_opt_params._fields_, ("optimizer_type", ctypes.c_int)]

    base = ctypes.CDLL(str(pathlib.Path(lib._name).parent / "libggml-base.so"))
    for name, result, arguments in (
            ("ggml_opt_dataset_init", ctypes.c_void_p, [ctypes.c_int, ctypes.c_int] + [ctypes.c_int64] * 4),
            ("ggml_opt_dataset_data", ctypes.c_void_p, [ctypes.c_void_p]),
            ("ggml_opt_dataset_labels", ctypes.c_void_p, [ctypes.c_void_p]),
            ("ggml_get_data", ctypes.c_void_p, [ctypes.c_void_p]), ("ggml_opt_result_init", ctypes.c_void_p, [])):
        function = getattr(base, name)
        function.restype, function.argtypes = result, arguments
    integers = 26  # GGML_TYPE_I32
    data = base.ggml_opt_dataset_init(integers, integers, size, size, texts, 1)
    for place, first in ((base.ggml_opt_dataset_data(data), 0), (base.ggml_opt_dataset_labels(data), 1)):
        ids = random_ids(llama.vocabulary, texts * size + 1)[first:first + texts * size]
        ctypes.memmove(base.ggml_get_data(place), (ctypes.c_int32 * len(ids))(*ids), 4 * len(ids))
    every = llama.l.llama_opt_param_filter(lambda tensor, more: True)
    rates = ctypes.cast(base.ggml_opt_get_default_optimizer_params, ctypes.c_void_p)
    lib.llama_opt_init.argtypes = [ctypes.c_void_p, ctypes.c_void_p, Options]
    lib.llama_opt_init(llama.context, llama.model, Options(0, every, None, rates, None, 0))
    results = base.ggml_opt_result_init(), base.ggml_opt_result_init()

    def measure():
        _ = every  # called by llama.cpp
        started = time.perf_counter()
        llama.l.llama_opt_epoch(llama.context, data, *results, texts, None, None)
        return texts * size / (time.perf_counter() - started)

    measure()
    return measure


def llama_rollout(r):
    """Samples with llama.cpp's own sampler, at temperature 1 from all tokens."""
    llama = Llama(r, r["length"] + r["answer"])
    l = llama.l
    sampler = l.llama_sampler_init_dist(1)

    def measure(new=r["answer"]):
        started = time.perf_counter()
        llama.clear()
        llama.prompts()
        places = [(s + 1) * r["length"] - 1 for s in range(r["batch"])]
        for i in range(new):
            last = [l.llama_sampler_sample(sampler, llama.context, p) for p in places]
            if i + 1 < new:
                llama.step(last, r["length"] + i)
                places = range(r["batch"])
        return r["batch"] * new / (time.perf_counter() - started)

    measure(4)
    return measure


# ---- requests -------------------------------------------------------------------------------------------------

WORKS = {("torch", "sft"): training, ("peft", "sft"): training, ("transformers", "rollout"): generation,
         ("trl", "reward"): reward, ("trl", "ppo"): ppo, ("llama.cpp", "sft"): llama_training, ("llama.cpp", "decode"): llama_decode,
         ("llama.cpp", "prefill"): llama_prefill, ("llama.cpp", "rollout"): llama_rollout}


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    measure = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "look":
                reply = look(request)
            elif request["do"] == "load":
                measure = WORKS[request["peer"], request["kind"]](request)
                with contextlib.suppress(OSError):
                    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the largest resident set is that of measuring
                reply = {"ready": True}
            else:
                reply = {"rate": measure()}
        except Exception as problem:
            reply = {"failed": f"{type(problem).__name__}: {problem}"[:250]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
