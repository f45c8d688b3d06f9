"""Loads what test_parity_architectures saved (DROVER_SAVED): transformers.py FOLDER. Part of transformers.sh.

FOLDER/model-NAME and FOLDER/adapter-NAME must give the logits of tests/fixtures/arch/NAME, and with the adapter those of
tests/fixtures/arch/NAME/adapter, in the class that the library picks by config.json; all tensors must be taken, none missing.
"""

import pathlib
import sys
import warnings

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
sys.path = [p for p in sys.path if pathlib.Path(p or ".").resolve() != pathlib.Path(__file__).resolve().parent]  # our name is the library's
sys.path.append(str(FIXTURES))

import torch
import transformers as tf
from peft import PeftModel
from safetensors.numpy import load_file

from make_architectures import defined, run

TOLERANCE = 2e-5


def restated(build, directory):
    """The restatement with the saved tensors, all of them."""
    model = build()
    tensors = {k: torch.from_numpy(v) for k, v in load_file(directory / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {k for k, p in model.state_dict(keep_vars=True).items() if any(p is q for n, q in model.named_parameters() if n != k)}
    assert not unexpected and not set(missing) - tied, (missing, unexpected)
    model.prepare_inputs_for_generation = None  # PEFT asks for it, and need not call it
    return model.eval()


def library(directory, attention):
    model, info = tf.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=attention, output_loading_info=True)
    wrong = {k: sorted(v) for k, v in info.items() if v}
    assert not wrong, wrong
    return model.eval()


def difference(model, expected):
    offsets, ids = expected["offsets"], torch.from_numpy(expected["ids"]).long()
    logits = run(model, [ids[a:b] for a, b in zip(offsets, offsets[1:])])
    return (logits - torch.from_numpy(expected["logits"])).abs().max().item()


def check(name, build, options, folder):
    """Two differences: of the model, and with the adapter."""
    plain = isinstance(build().config, dict)
    load = lambda: restated(build, folder / f"model-{name}") if plain else library(folder / f"model-{name}", options.get("attention", "eager"))
    with torch.no_grad():
        alone = difference(load(), load_file(FIXTURES / "arch" / name / "expected.safetensors"))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # PEFT warns of keys that do not fit
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
            adapted = PeftModel.from_pretrained(load(), folder / f"adapter-{name}").eval().base_model.model
        return alone, difference(adapted, load_file(FIXTURES / "arch" / name / "adapter" / "expected.safetensors"))


def main():
    folder = pathlib.Path(sys.argv[1])
    tf.logging.set_verbosity_error()
    good = bad = skipped = 0
    for name, build, options in defined():
        if not (folder / f"model-{name}").is_dir():
            continue
        if "hub" in options:
            skipped += 1
            print(f"skip {name:24s} {options['hub']}: Transformers' class has it not")
            continue
        try:
            alone, adapted = check(name, build, options, folder)
            ok = alone <= TOLERANCE and adapted <= TOLERANCE
            print(f"{'ok  ' if ok else 'FAIL'} {name:24s} {alone:.2g}, with the adapter {adapted:.2g}", flush=True)
        except Exception as problem:  # what the library refuses is the finding, not the end
            ok = False
            print(f"FAIL {name:24s} {type(problem).__name__}: {problem}", flush=True)
        good, bad = good + ok, bad + (not ok)
    print(f"{good} of {good + bad} agree, {skipped} skipped")
    sys.exit(0 if good and not bad else 1)


if __name__ == "__main__":
    main()
