#!/usr/bin/env bash
# A disk without room for a model: programs that write one say so before they begin, and leave nothing. $1: the folder of the programs.
#
# The disk is a small file system in memory, in a name space that ends with this script. Skipped where that is not allowed.
if [[ ! ${DROVER_INSIDE:-} ]]; then
  inside=(unshare --mount)
  ((EUID == 0)) || inside+=(--user --map-root-user)
  "${inside[@]}" mount -t tmpfs none /mnt 2>/dev/null || { echo 'skipped: name spaces are not allowed here' && exit 77; }
  DROVER_INSIDE=1 exec "${inside[@]}" bash "$0" "$@"
fi
bin=$1
source tests/support/stages.sh
make_world "$work/world"
cd "$work"
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --run.dir run --optim.max_steps 1 --optim.batch_size 4 --lora.enabled
pass "$bin/sft" --model.path world/base --data.train world/sft.jsonl --run.dir whole --optim.max_steps 1 --optim.batch_size 4
small=/mnt
mount -t tmpfs -o size=64k none $small
full() { # COMMAND...
  refuse 6 'are to be written, and' "$@"
  [[ -z $(ls -A $small) ]] || fail "left: $(ls -A $small)"
}
for check in "" --check; do
  # shellcheck disable=SC2086 # perhaps none
  {
    full "$bin/merge" --model world/base --adapter run/adapter --out $small/model $check
    full "$bin/init" --config world/base/config.json --tokenizer world/base --out $small/model $check
    full "$bin/export" whole --out $small/model $check
    full "$bin/tokenizer" add world/base --out $small/model --token new $check
  }
done
# In an empty directory too, which stays.
mkdir $small/model
refuse 6 'are to be written, and' "$bin/merge" --model world/base --adapter run/adapter --out $small/model
[[ -z $(ls -A $small/model) ]] || fail "left: $(ls -A $small/model)"
note "programs say that the disk is full before they write"
