"""The peers of tools/bench_gpu.sh: the same work in PyTorch, Transformers and PEFT, as a careful user would write it.

    python3 peers.py WORK JSON-ARGUMENTS

Prints one JSON object. Every work warms up first and ends each measurement with the device idle.
"""

import json
import sys
import time

import torch


def seconds(work, repeat):
    """Mean seconds of work(), after one call that warms up."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeat):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeat


def device(_):
    """What the card does at best here: a large bf16 product, and a copy."""
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = seconds(lambda: a @ b, 20)
    x = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    y = torch.empty_like(x)
    copy = seconds(lambda: y.copy_(x), 20)
    return {"flops_per_second": 2 * n**3 / product, "bytes_per_second": 2 * x.numel() / copy}


def attention(a):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    batch, length, heads, size = a["tokens"] // a["length"], a["length"], a["heads"], a["size"]
    q, k, v = (torch.randn(batch, heads, length, size, device="cuda", dtype=torch.bfloat16, requires_grad=True)
               for _ in range(3))
    dout = torch.randn_like(q)
    best = {}
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            with sdpa_kernel(backend):
                def forward():
                    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

                out = forward()
                times = {"forward_seconds": seconds(forward, 10),
                         "backward_seconds": seconds(lambda: out.backward(dout, retain_graph=True), 10)}
        except RuntimeError:  # not on this card
            continue
        for name, value in times.items():
            if value < best.get(name, float("inf")):
                best[name], best[name + "_of"] = value, backend.name
    return best


def new_model(path, checkpointing=False):
    from transformers import AutoConfig, AutoModelForCausalLM
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.bfloat16,
                                                 attn_implementation="sdpa")
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.config.use_cache = False
    return model


def with_lora(model, r):
    from peft import LoraConfig, get_peft_model
    return get_peft_model(model, LoraConfig(r=r, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear",
                                            task_type="CAUSAL_LM"))


def training(a):
    model = new_model(a["config"], checkpointing=a["recompute"])
    if a["lora"]:
        model = with_lora(model, a["r"])
        model.enable_input_require_grads()
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-6, fused=True)
    run = torch.compile(model) if a["compile"] else model
    ids = torch.randint(0, model.config.vocab_size, (a["tokens"] // a["length"], a["length"]), device="cuda")

    def step():
        run(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    mean = seconds(step, a["steps"])
    return {"seconds": mean, "tokens_per_second": ids.numel() / mean, "peak_bytes": torch.cuda.max_memory_allocated()}


def generate(model, ids, new, **more):
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                          do_sample=True, temperature=1.0, top_k=0, pad_token_id=0, **more)


def decode(a):
    model = new_model(a["config"]).eval()
    out = {}
    for batch in a["batches"]:
        ids = torch.randint(3, model.config.vocab_size, (batch, a["length"]), device="cuda")
        with torch.no_grad():
            short = seconds(lambda: generate(model, ids, 1), 1)  # the prompt's own cost
            long = seconds(lambda: generate(model, ids, a["new_tokens"] + 1), 1)
        out[str(batch)] = {"tokens_per_second": batch * a["new_tokens"] / (long - short)}
    return out


def ppo(a):
    """One PPO update as TRL's loop makes it: generate, score, log-probabilities of actor and reference, values, then
    minibatches of the clipped loss; LoRA on one frozen base, the reference being the base without adapter."""
    model = with_lora(new_model(a["config"], checkpointing=True), a["r"])
    model.enable_input_require_grads()
    hidden, prompts, new, small = model.config.hidden_size, a["prompts"], a["new_tokens"], a["micro_batch"]
    head = torch.nn.Linear(hidden, 1, bias=False, device="cuda", dtype=torch.bfloat16)
    weights = [p for p in model.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-6, fused=True)
    ids = torch.randint(3, model.config.vocab_size, (prompts, a["length"]), device="cuda")

    def forward(x):
        """Log-probabilities and values of the response tokens."""
        out = model.base_model(input_ids=x, output_hidden_states=True, use_cache=False)
        logits = out.logits[:, a["length"] - 1:-1].float()
        logprobs = torch.gather(logits.log_softmax(-1), 2, x[:, a["length"]:, None])[..., 0]
        return logprobs, head(out.hidden_states[-1][:, a["length"] - 1:-1])[..., 0].float()

    def update():
        model.eval()
        with torch.no_grad():
            sequences = torch.cat([generate(model, part, new) for part in ids.split(a["generate_batch"])])
            old, values, reference = [], [], []
            for part in sequences.split(small):
                logprobs, value = forward(part)
                old.append(logprobs)
                values.append(value)
                with model.disable_adapter():
                    reference.append(forward(part)[0])
            old, values, reference = torch.cat(old), torch.cat(values), torch.cat(reference)
            rewards = -0.05 * (old - reference)
            rewards[:, -1] += values[:, -1]
            advantages, last = torch.zeros_like(rewards), 0
            for t in reversed(range(new)):
                following = values[:, t + 1] if t + 1 < new else 0
                last = rewards[:, t] + following - values[:, t] + 0.95 * last
                advantages[:, t] = last
            returns = advantages + values
        model.train()
        for batch in torch.randperm(prompts, device="cuda").split(prompts // a["minibatches"]):
            for part in batch.split(small):
                logprobs, value = forward(sequences[part])
                ratio = (logprobs - old[part]).exp()
                policy = -torch.min(ratio * advantages[part], ratio.clamp(0.8, 1.2) * advantages[part]).mean()
                loss = policy + 0.05 * (value - returns[part]).square().mean()
                (loss * len(part) / len(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()

    mean = seconds(update, a["steps"])
    return {"seconds": mean, "peak_bytes": torch.cuda.max_memory_allocated()}


if __name__ == "__main__":
    works = {f.__name__: f for f in (device, attention, training, decode, ppo)}
    torch.manual_seed(0)
    print(json.dumps(works[sys.argv[1]](json.loads(sys.argv[2]))))
