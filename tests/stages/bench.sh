#!/usr/bin/env bash
# drover bench: what it prints, of a tiny model and a peer that is a script. No time is asserted. $1: the folder of the executables.
bin=$1
source tests/support/stages.sh
export TMPDIR=$work/tmp
mkdir "$TMPDIR"
quick=(--seconds 0 --rounds 1 --repeat 0)

# -- names
refuse 2 "--workload: there is no 'decode1'; did you mean 'decode_1'?" "$drover" bench --workload decode1
refuse 2 "--workload: there is no 'everything'; known are sft_lora, sft_full, " "$drover" bench --workload decode_8,everything
refuse 2 "--peer: there is no 'tlr'; did you mean 'trl'?" "$drover" bench --peer tlr
refuse 2 "--peer: 'trl' has none of the workloads of --workload" "$drover" bench --workload decode_8,rollout --peer llama.cpp,trl
refuse 6 'there is no directory nowhere' "$drover" bench --model nowhere --workload decode_1
refuse 6 "$work/nowhere/result.json" "$drover" bench --out "$work/nowhere/result.json" # before anything is measured
expect 'the check found nothing wrong' "$drover" bench --check
note "names"

# -- ours: one workload of each kind, on a model that is made
kinds=sft_lora,sft_full_bf16,reward,decode_8,decode_8_int8,decode_8_nf4,prefill_64x32,rollout,ppo
pass "$drover" bench --workload $kinds "${quick[@]}" --json --out "$work/result.json"
cmp <(jq -S . "$work/out") <(jq -S . "$work/result.json") || fail "--json and --out are not the same"
jq -e '
  (.version | type == "string") and (.date | test("^20[0-9-]{8}T[0-9:]{8}Z$")) and
  (.machine | (.cpu | length > 0) and (.features | index("avx2") != null) and .cores >= 1 and .threads >= 1 and
    (.quota | type | IN("null", "number")) and (.compiler | test("[0-9]")) and .memory_bytes > 1e8) and
  (.model | .name == "a tiny one" and .parameters > 1e4) and (.settings | .rounds == 1 and .seconds == 0) and
  (.ceilings | .product_f32 > 0 and .product_bf16 > 0 and .memory > 0 and (.disturbed | type == "boolean")) and
  .peers == {}' "$work/out" >"$work/log" || fail "the result's head: $(jq -c 'del(.workloads)' "$work/out")"
[[ $(jq -r '[.workloads[].name] | join(",")' "$work/out") == "$kinds" ]] || fail "workloads: $(jq -c '[.workloads[].name]' "$work/out")"
jq -e '.workloads | all(.[]; (.ours.lacks // "" | startswith("left out: needs amx_bf16")) or
  (.unit == "tokens/s" and .floor > 0 and .ours.rate > 0 and .ours.least <= .ours.rate and .ours.rate <= .ours.most and .ours.peak_bytes > 1e6 and
   ((.reached - .ours.rate / .floor) | fabs < 1e-6) and (.ours.runs | length == 1 and all(.[]; .rate > 0 and .others >= 0 and .others <= 1)) and
   .ours.disturbed == (.ours.runs[0].others > 0.05) and .peers == []))' "$work/out" >"$work/log" || fail "the workloads: $(jq -c .workloads "$work/out")"
if ! grep -q ' amx_bf16' /proc/cpuinfo; then
  jq -e '[.workloads[] | select(.ours.lacks)] | length == 1' "$work/out" >"$work/log" || fail "left out: $(jq -c .workloads "$work/out")"
fi
[[ -z $(ls "$TMPDIR") ]] || fail "something is left: $(ls "$TMPDIR")"
note "ours"

# -- a peer, in turn with us: a script that says what it is asked
cat >"$work/python" <<'END'
#!/usr/bin/env bash
while read -r line; do
  case $line in
    *'"do":"look"'*) echo 'some words'; echo '{"peft": {"version": "1.2"}, "trl": {"lacks": "import"}, "llama.cpp": {"version": "3"}}' ;;
    *'"do":"load"'*'"peer":"llama.cpp"'*) echo 'ValueError: no such model' >&2; exit 3 ;;
    *'"do":"load"'*'"kind":"sft"'*'"lora":true'*'"batch":4,"length":256'*) echo '{"ready": true}' ;;
    *'"do":"measure"'*) echo "{\"rate\": $((100 * ++count))}" ;;
    *) exit 9 ;;
  esac
done
END
chmod +x "$work/python"
pass "$drover" bench --workload sft_lora,reward,decode_1 --peer peft,trl,llama.cpp --python "$work/python" --seconds 0 --rounds 3 --repeat 0 --json
jq -e '
  .peers == {"peft": {"version": "1.2"}, "trl": {"lacks": "not importable by '"$work"'/python"}, "llama.cpp": {"version": "3"}} and
  (.workloads[0] | (.peers[0] | .name == "peft" and .rate > 0 and ([.runs[].rate] == [100, 200, 300])) and
    ((.peers[0].ratio - .ours.rate / .peers[0].rate) | fabs < 1e-6)) and
  (.workloads[1].peers == [{"name": "trl", "lacks": "not importable by '"$work"'/python"}]) and
  (.workloads[2].peers[0] | .name == "llama.cpp" and (.lacks | contains("ValueError: no such model")))' "$work/out" >"$work/said" ||
  fail "peers: $(jq -c '.peers, .workloads' "$work/out")"
[[ $(grep -oE '^sft_lora: (drover|peft) [0-9]' "$work/log" | cut -d' ' -f2 | xargs) == 'drover peft drover peft drover peft' ]] || fail "turns: $(cat "$work/log")"
pass "$drover" bench --workload sft_lora,reward,decode_1 --peer peft,trl,llama.cpp --python "$work/python" "${quick[@]}"
grep -qE '^reward +[0-9.]+  trl +none ' "$work/out" || fail "no line for a peer that is missing: $(cat "$work/out")"
grep -qxF "trl: not importable by $work/python" "$work/out" || fail "what is missing: $(cat "$work/out")"
grep -qF 'decode_1, llama.cpp: exit code 3: ValueError: no such model' "$work/out" || fail "what failed: $(cat "$work/out")"
awk 'length > 80 && !/^(trl|decode_1|[a-z0-9_ ]*gcc)/ { bad = 1; print } END { exit bad }' "$work/out" || fail 'a wide line'
expect 'torch: cannot run' "$drover" bench --workload sft_full --peer torch --python "$work/nowhere" "${quick[@]}"

# A signal comes while a peer measures: nothing is left, but the workloads that were through, in the file.
sed -i -e "s|echo 'ValueError.*|echo '{\"ready\": true}' ;;|" -e "s|echo .*count.*|touch '$work/asked'; sleep 60; echo '{\"rate\": 1}' ;;|" "$work/python"
"$drover" bench --workload sft_lora,decode_1 --peer llama.cpp --python "$work/python" --seconds 0 --rounds 1 --repeat 0 --out "$work/some.json" \
  >"$work/out" 2>"$work/log" &
job=$!
until [[ -e $work/asked ]] || ! kill -0 $job 2>/dev/null; do sleep 0.05; done
kill -TERM $job
status=0
wait $job || status=$?
jq -e '[.workloads[].name] == ["sft_lora"] and .workloads[0].ours.rate > 0' "$work/some.json" >"$work/said" ||
  fail "what was measured before the signal: $(cat "$work/log")"
[[ $status == 143 && ! -s $work/out && -z $(ls "$TMPDIR") ]] || fail "exit code $status, left $(ls "$TMPDIR"): $(cat "$work/log")"
note "peers"

# -- the page's table is made of the file beside it
tools/performance_table.sh --check || fail 'docs/performance.md'
mkdir -p "$work/page/tools" "$work/page/docs"
cp tools/performance_table.sh "$work/page/tools/"
cp docs/performance*.md docs/performance*.json "$work/page/docs/"
jq '.workloads[0].ours.rate *= 2' docs/performance.json >"$work/page/docs/performance.json"
if "$work/page/tools/performance_table.sh" --check 2>"$work/log"; then fail 'a wrong table was not found'; fi
"$work/page/tools/performance_table.sh" --write "$work/result.json"
cmp "$work/result.json" "$work/page/docs/performance.json" || fail '--write keeps another file'
"$work/page/tools/performance_table.sh" --check || fail '--write'
grep -q '^| `prefill_64x32`' "$work/page/docs/performance.md" || fail "the table: $(cat "$work/page/docs/performance.md")"
# Of what was quiet there is a ratio, of what was not there is none.
quiet=$(jq '.workloads[0] |= (.ours.disturbed = false | .peers[0].disturbed = false | .peers[0].ratio = 77.25)' docs/performance.json)
for disturbed in false true; do
  jq ".workloads[0].ours.disturbed = $disturbed" <<<"$quiet" >"$work/quiet.json"
  "$work/page/tools/performance_table.sh" --write "$work/quiet.json"
  [[ $(grep -c '| 77.25 |' "$work/page/docs/performance.md") == $([[ $disturbed == false ]] && echo 1 || echo 0) ]] || fail "a ratio where disturbed is $disturbed"
done
# A second table is of another file; one that the page has no mark of is refused.
printf '%s\n' '<!-- tools/performance_table.sh other.json -->' '<!-- end -->' >>"$work/page/docs/performance.md"
"$work/page/tools/performance_table.sh" --write "$work/quiet.json" other.json
"$work/page/tools/performance_table.sh" --check || fail '--write of a second table'
tables=$(grep -c '^<!-- tools/performance_table.sh' "$work/page/docs/performance.md")
[[ $(grep -c '^| `prefill_64x32`.*GiB' "$work/page/docs/performance.md") == "$tables" ]] || fail "not $tables tables"
jq '.workloads[0].ours.rate *= 2' "$work/quiet.json" >"$work/page/docs/other.json"
if "$work/page/tools/performance_table.sh" --check 2>"$work/log"; then fail 'a wrong second table was not found'; fi
if "$work/page/tools/performance_table.sh" --write "$work/quiet.json" missing.json 2>"$work/log"; then fail 'a table without a place'; fi
grep -q 'missing.json' "$work/log" || fail "$(cat "$work/log")"
note "the page"
echo "bench: figures beside others"
